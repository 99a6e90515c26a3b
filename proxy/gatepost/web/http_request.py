"""One HTTP request over a connection of its own; h11 parses the response. Nothing is followed or kept."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

import h11

from gatepost.config.http_url import HttpUrl
from gatepost.connecting import connect
from gatepost.printable import printable, text_of
from gatepost.values import value

__all__ = ["HttpError", "HttpResponse", "request"]

_READ_BYTES: Final = 64 << 10
_REASON_LENGTH: Final = 100


class HttpError(Exception):
    """There is no complete response; the text says why, for a log."""


@value
class HttpResponse:
    """What a server answered."""

    status: int
    reason: str
    """The phrase after the status: printable, and short."""
    content_type: str
    """Without parameters, in lower case; empty: the response has none."""
    body: bytes

    def __str__(self) -> str:
        """Status and reason."""
        return f"{self.status} {self.reason}".rstrip()


async def request(
    url: HttpUrl,
    *,
    method: str = "GET",
    fields: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    tls: ssl.SSLContext | None,
    seconds: float,
    most: int = 0,
) -> HttpResponse:
    """Send a request and read the response; raises HttpError.

    Args:
        url: where to.
        method: of the request.
        fields: header fields beside Host, User-Agent, Connection and Content-Length.
        body: of the request.
        tls: of an https URL.
        seconds: for all of it, from the lookup of the host's address.
        most: bytes that the response's body may have; 0: of the response only the head is read.
    """
    framing = [("content-length", str(len(body)))] if body or method == "POST" else []
    common = [("host", url.authority), ("user-agent", "Gatepost"), ("connection", "close")]
    head = h11.Request(method=method, target=url.target, headers=[*common, *framing, *fields])
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(url, head, body, tls if url.tls else None, most)
    except TimeoutError:
        raise HttpError(f"no answer within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise HttpError(f"its certificate is not trusted: {error.verify_message}") from None
    except OSError as error:
        raise HttpError(printable(error.strerror or str(error))) from None
    except h11.RemoteProtocolError as error:
        raise HttpError(f"no HTTP response: {printable(str(error))}") from None


async def _exchange(
    url: HttpUrl, head: h11.Request, body: bytes, tls: ssl.SSLContext | None, most: int
) -> HttpResponse:
    client = h11.Connection(h11.CLIENT)
    reader, writer = await asyncio.open_connection(
        sock=await connect(url.host, url.port), ssl=tls, server_hostname=url.host if tls else None
    )
    try:
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(client.send(event) or b"")
        response = await _head(client, reader)  # which may come before everything was sent
        content = await _body(client, reader, most) if most else b""
    finally:
        writer.transport.abort()
    types = [value for name, value in response.headers if name == b"content-type"]
    return HttpResponse(
        status=response.status_code,
        reason=printable(text_of(response.reason))[:_REASON_LENGTH],
        content_type=types[0].decode("latin-1").partition(";")[0].strip().lower() if types else "",
        body=content,
    )


async def _head(client: h11.Connection, reader: asyncio.StreamReader) -> h11.Response:
    """The head of the response, after any number of 1xx."""
    while not isinstance(event := client.next_event(), h11.Response):
        if event is h11.NEED_DATA:
            read = await reader.read(_READ_BYTES)
            if not read:
                raise ConnectionError("the connection was closed without a response")
            client.receive_data(read)
    return event


async def _body(client: h11.Connection, reader: asyncio.StreamReader, most: int) -> bytes:
    body = bytearray()
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            client.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > most:
                raise HttpError(f"a response of more than {most} bytes")
    return bytes(body)
