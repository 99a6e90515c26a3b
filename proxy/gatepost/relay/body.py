"""The message on its way: transparency dots, and no faster than upstream takes it."""

import asyncio
from collections.abc import Iterable, Sequence

from gatepost.relay.connection import Connection
from gatepost.verdict import Reply

__all__ = ["END_OF_DATA", "early_refusal", "send_body", "stuffed"]

END_OF_DATA = b".\r\n"
_CHUNK_OCTETS = 256 << 10


def stuffed(pieces: Sequence[bytes]) -> list[bytes]:
    """The pieces with transparency dots (RFC 5321 section 4.5.2), and CRLF at the end where it is missing.

    Each piece begins at the beginning of a line.
    """
    parts = []
    for piece in pieces:
        if piece:
            part = piece.replace(b"\r\n.", b"\r\n..")  # the same object where there is none
            parts.append(b"." + part if part.startswith(b".") else part)
    if parts and not parts[-1].endswith(b"\r\n"):
        parts.append(b"\r\n")
    return parts


async def send_body(
    connection: Connection, parts: Iterable[bytes], end: asyncio.Future[list[Reply]], deadline: float
) -> Reply | None:
    """All but the dot; gives upstream's 4xx or 5xx if it replies in the midst of it.

    Args:
        connection: after 354.
        parts: what `stuffed` gives.
        end: the reply to the message, which should not be there before the dot is.
        deadline: on the event loop's clock.

    Raises:
        UpstreamLostError: the connection is lost, or the early reply makes no sense.
    """
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(part), _CHUNK_OCTETS):
            if not end.done():
                connection.write(view[start : start + _CHUNK_OCTETS], deadline)
                await connection.drain(end)
    if not end.done():
        return None
    (reply,) = end.result()
    if reply.code < 400:
        raise connection.abort(f"a reply before the dot: {reply}")
    return reply


def early_refusal(end: asyncio.Future[list[Reply]]) -> Reply | None:
    """Upstream's 4xx or 5xx, where it came before the connection was lost in the midst of the message."""
    if not end.done() or end.exception():
        return None
    (reply,) = end.result()
    return reply if reply.code >= 400 else None
