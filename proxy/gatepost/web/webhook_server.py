"""The server of a webhook: one POST, signed as Standard Webhooks say (https://www.standardwebhooks.com)."""

import asyncio
import base64
import hmac
import ssl
import time
from typing import Final

import h11

from gatepost.config.webhook import WebhookSettings
from gatepost.printable import printable, text_of

__all__ = ["FIELDS", "SIGNATURE", "WebhookServer"]

SIGNATURE: Final = "webhook-signature"
FIELDS: Final = {
    "webhook-id": "The id of the message: the same each time that it is sent.",
    "webhook-timestamp": "When this request was sent, in seconds since 1970.",
    SIGNATURE: "`v1,` and base64 of the HMAC-SHA-256 of `ID.TIMESTAMP.BODY`; only with a secret.",
}
"""The header fields that are signed or sign, and what they mean."""
_SECONDS: Final = 10.0
"""For one request, from the lookup of the host's address to the status of the response."""
_READ_BYTES: Final = 64 << 10
_REASON_LENGTH: Final = 100


class WebhookServer:
    """Sends one request at a time over a connection of its own; for one event loop."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._tls = ssl.create_default_context() if settings.url.tls else None

    def __str__(self) -> str:
        """Scheme, host and port."""
        return str(self._settings.url)

    async def post(self, message_id: str, body: bytes) -> str:
        """Send a JSON text once; returns why it was not accepted, empty if it was.

        Any 2xx is acceptance. Of the response only the status is read, and no redirect is followed.
        """
        try:
            request = self._request(message_id, body)
        except (OSError, ValueError) as error:
            return f"it cannot be signed: {error}"
        try:
            async with asyncio.timeout(_SECONDS):
                response = await self._exchange(request, body)
        except TimeoutError:
            return f"no answer within {_SECONDS:g} s"
        except ssl.SSLCertVerificationError as error:
            return f"its certificate is not trusted: {error.verify_message}"
        except OSError as error:
            return printable(error.strerror or str(error))
        except h11.RemoteProtocolError as error:
            return f"no HTTP response: {printable(str(error))}"
        status, reason = response.status_code, printable(text_of(response.reason))[:_REASON_LENGTH]
        if 200 <= status < 300:
            return ""
        return f"{status} {reason}".rstrip() + (" (redirects are not followed)" if status < 400 else "")

    def _request(self, message_id: str, body: bytes) -> h11.Request:
        """Raises OSError and ValueError if the secret cannot be read any more."""
        url, at = self._settings.url, str(int(time.time()))
        fields = [
            ("host", url.authority),
            ("user-agent", "Gatepost"),
            ("connection", "close"),
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("webhook-id", message_id),
            ("webhook-timestamp", at),
        ]
        if secret := self._settings.secret:
            signed = hmac.digest(secret, f"{message_id}.{at}.".encode() + body, "sha256")
            fields.append((SIGNATURE, f"v1,{base64.b64encode(signed).decode()}"))
        if url.user is not None:
            fields.append(("authorization", f"Basic {base64.b64encode(url.user.encode()).decode()}"))
        return h11.Request(method="POST", target=url.target, headers=fields)

    async def _exchange(self, request: h11.Request, body: bytes) -> h11.Response:
        """Raises OSError and h11.RemoteProtocolError."""
        url, client = self._settings.url, h11.Connection(h11.CLIENT)
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=self._tls)
        try:
            for event in (request, h11.Data(data=body), h11.EndOfMessage()):
                writer.write(client.send(event) or b"")
            return await _response(client, reader)  # which may come before everything was sent
        finally:
            writer.transport.abort()


async def _response(client: h11.Connection, reader: asyncio.StreamReader) -> h11.Response:
    """The head of the response, after any number of 1xx."""
    while not isinstance(event := client.next_event(), h11.Response):
        if event is h11.NEED_DATA:
            read = await reader.read(_READ_BYTES)
            if not read:
                raise ConnectionError("the connection was closed without a response")
            client.receive_data(read)
    return event
