"""Requests to one web server over connections that are used again: HTTP/1.1 by h11, for filters.

No redirect is followed, no proxy is used, nothing is decompressed. There is no time limit: a request that is
cancelled closes its connection.
"""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
from gatepost import UnreachableError, connect

__all__ = ["HttpServer", "Response", "Url"]

_IDLE_LIMIT = 4
"""Connections that are kept for the next request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """An http or https URL without a user."""

    tls: bool
    host: str
    port: int
    authority: str
    """Host and port, as in the field Host (RFC 9110 section 7.2)."""
    target: str
    """Path and query."""

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Raises ValueError."""
        expected = "expected an http or https URL like https://filters.example.com/check"
        if not (text.isascii() and text.isprintable()) or set(' "<>\\^`{|}#') & set(text):
            raise ValueError(f"url: {text!r} is not a URL without a fragment, {expected}")
        try:
            url = urlsplit(text)
            host, port = url.hostname, url.port
        except ValueError:
            host, port = None, None
        if not host or port == 0 or url.scheme not in ("http", "https"):
            raise ValueError(f"url: {text!r}, {expected}")
        if url.username is not None:
            raise ValueError(f"url: {text!r} has a user, expected token_file instead")
        tls = url.scheme == "https"
        return cls(
            tls=tls,
            host=host,
            port=port or (443 if tls else 80),
            authority=url.netloc,
            target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete response."""

    status: int
    content_type: str
    """Type and subtype in lower case, without parameters."""
    encoding: str
    """The field Content-Encoding; empty if there is none."""
    body: bytes


class HttpServer:
    """Sends requests; for one event loop."""

    def __init__(self, url: Url, *, ca_file: Path | None, limit: int) -> None:
        """``ca_file``: instead of the system's certificates; ``limit``: bytes of a response's body.

        Raises OSError and ssl.SSLError, an OSError too, for a file that has no certificates.
        """
        self._url = url
        self._tls = ssl.create_default_context(cafile=ca_file) if url.tls else None
        self._limit = limit
        self._idle: list[_Connection] = []

    async def post(self, fields: list[tuple[str, str]], body: bytes) -> Response:
        """Send a request; raises UnreachableError if there is no connection, and ConnectionError.

        A server may close a connection that is not in use at any time. If one that is used again is closed
        before the response has begun, the request is sent once more, over a new one.
        """
        request = h11.Request(
            method="POST",
            target=self._url.target,
            headers=[("host", self._url.authority), ("content-length", str(len(body))), *fields],
        )
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_usable:
                connection.close()
                continue
            response = await self._exchange(connection, request, body)
            if response is not None:
                return response
        response = await self._exchange(await self._connect(), request, body)
        if response is None:
            raise ConnectionError("the connection was closed without a response")
        return response

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    async def _connect(self) -> "_Connection":
        loop, url = asyncio.get_running_loop(), self._url
        try:
            _, connection = await loop.create_connection(
                _Connection,
                sock=await connect(url.host, url.port),
                ssl=self._tls,
                server_hostname=url.host if self._tls else None,
            )
        except asyncio.CancelledError:
            raise UnreachableError("no connection in time") from None
        except ssl.SSLCertVerificationError as error:
            raise UnreachableError(f"its certificate is not trusted: {error.verify_message}") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be looked up
            raise UnreachableError(str(error)) from error
        return connection

    async def _exchange(
        self, connection: "_Connection", request: h11.Request, body: bytes
    ) -> Response | None:
        """The response; None if the connection ended before it had begun."""
        try:
            response = await connection.exchange(request, body, self._limit)
        except h11.ProtocolError as error:
            connection.close()
            raise ConnectionError(f"no HTTP response: {error}") from error
        except BaseException:
            connection.close()
            raise
        if response is not None and connection.is_usable and len(self._idle) < _IDLE_LIMIT:
            self._idle.append(connection)
        else:
            connection.close()
        return response


class _Connection(asyncio.Protocol):
    """One connection. What the server sends before it is asked makes it unusable."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._transport: Any = None
        self._changed = asyncio.Event()
        self._is_asking = False
        self._has_begun = False
        self.is_usable = True
        """True until it is closed, or something comes that was not asked for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of a response, or a reason to give the connection up."""
        if not self._is_asking:
            self.close()
            return
        self._has_begun = True
        self._http.receive_data(data)
        self._changed.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """The end of a response, or of the connection without one."""
        self.is_usable = False
        if self._is_asking:
            self._http.receive_data(b"")
        self._changed.set()

    async def exchange(self, request: h11.Request, body: bytes, limit: int) -> Response | None:
        """Raises h11.ProtocolError and ConnectionError; None if it ended before the response had begun."""
        self._is_asking, self._has_begun = True, False
        for sent in (request, h11.Data(data=body), h11.EndOfMessage()):
            self._transport.write(self._http.send(sent) or b"")
        head: h11.Response | None = None
        received = bytearray()
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if event is None:
                return None
            if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise ConnectionError("no complete HTTP response")
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                received += event.data
                if len(received) > limit:
                    raise ConnectionError(f"the response has more than {limit:,} bytes")
        self._is_asking = False
        is_over = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if is_over and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
        else:
            self.is_usable = False
        if head is None:
            raise ConnectionError("no complete HTTP response")
        known = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        return Response(
            status=head.status_code,
            content_type=known.get("content-type", "").partition(";")[0].strip().lower(),
            encoding=known.get("content-encoding", ""),
            body=bytes(received),
        )

    async def _next(self) -> Any:
        """The next event of the response; None if the connection ended before the first byte of it."""
        while self.is_usable or self._has_begun:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._changed.clear()
            await self._changed.wait()
        return None

    def close(self) -> None:
        """Close it at once."""
        self.is_usable = False
        self._transport.abort()
