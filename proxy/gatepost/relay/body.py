"""Send the message: flow control while upstream reads slowly, and a refusal that comes meanwhile."""

import asyncio
from collections.abc import Iterable

from gatepost.model.verdict import Reply
from gatepost.relay.connection import Connection

__all__ = ["early_refusal", "send_body"]

_WRITE_OCTETS = 256 << 10


async def send_body(
    connection: Connection,
    parts: Iterable[bytes | memoryview],
    end: asyncio.Future[list[Reply]],
    deadline: float,
) -> Reply | None:
    """Send all but the end; returns upstream's 4xx or 5xx if it replies before that.

    Args:
        connection: upstream takes the message.
        parts: those of `gatepost.relay.framing.Framed`.
        end: the reply to the message, which should not arrive before its end was sent.
        deadline: on the event loop's clock.

    Raises:
        UpstreamLostError: the connection is lost, or the early reply is not 4xx or 5xx.
    """
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(part), _WRITE_OCTETS):
            if not end.done():
                connection.write(view[start : start + _WRITE_OCTETS], deadline)
                await connection.drain(end)
    if not end.done():
        return None
    (reply,) = end.result()
    if reply.code < 400:
        raise connection.abort(f"unexpected reply before the end of the message: {reply}")
    return reply


def early_refusal(end: asyncio.Future[list[Reply]]) -> Reply | None:
    """Upstream's 4xx or 5xx if it arrived before the connection was lost during the message, else None."""
    if not end.done() or end.exception():
        return None
    (reply,) = end.result()
    return reply if reply.code >= 400 else None
