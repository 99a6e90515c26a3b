"""The server of a webhook: one POST, signed as Standard Webhooks say (https://www.standardwebhooks.com)."""

import base64
import hmac
import ssl
import time
from typing import Final

from gatepost.config.webhook import WebhookSettings
from gatepost.web.http_request import HttpError, request

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
            fields = self._fields(message_id, body)
        except (OSError, ValueError) as error:
            return f"it cannot be signed: {error}"
        try:
            response = await request(
                self._settings.url, method="POST", fields=fields, body=body, tls=self._tls, seconds=_SECONDS
            )
        except HttpError as error:
            return str(error)
        if 200 <= response.status < 300:
            return ""
        return f"{response}" + (" (redirects are not followed)" if response.status < 400 else "")

    def _fields(self, message_id: str, body: bytes) -> list[tuple[str, str]]:
        """Raises OSError and ValueError if the secret cannot be read any more."""
        url, at = self._settings.url, str(int(time.time()))
        fields = [
            ("content-type", "application/json"),
            ("webhook-id", message_id),
            ("webhook-timestamp", at),
        ]
        if secret := self._settings.secret:
            signed = hmac.digest(secret, f"{message_id}.{at}.".encode() + body, "sha256")
            fields.append((SIGNATURE, f"v1,{base64.b64encode(signed).decode()}"))
        if url.user is not None:
            fields.append(("authorization", f"Basic {base64.b64encode(url.user.encode()).decode()}"))
        return fields
