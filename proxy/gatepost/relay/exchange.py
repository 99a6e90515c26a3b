"""Send several commands and collect the reply to each, pipelined if upstream allows it."""

import asyncio
from collections.abc import Sequence

from gatepost.model.verdict import Reply
from gatepost.relay.connection import COMMAND_SECONDS, Connection, UpstreamLostError

__all__ = ["RSET", "exchange"]

RSET = b"RSET\r\n"


async def exchange(
    connection: Connection, commands: Sequence[bytes], before: int, deadline: float
) -> list[Reply]:
    """Send commands, in one write if upstream has PIPELINING, and return the reply to each.

    If the connection ends early and one of the received replies is a refusal, that refusal is valid; each
    missing reply is replaced by the reply for a failed connection.

    Args:
        connection: an open connection.
        commands: the first ``before`` of them are RSET and MAIL. Without PIPELINING nothing is sent after a
            refused MAIL, and its reply is returned for the rest.
        before: how many commands precede RCPT.
        deadline: on the event loop's clock; `COMMAND_SECONDS` from now if that is earlier.

    Raises:
        UpstreamLostError: the connection failed, and none of the received replies is a refusal.
    """
    step_by = min(deadline, connection.now() + COMMAND_SECONDS)
    replies: list[Reply] = []
    lost: UpstreamLostError | None = None
    try:
        if "PIPELINING" in connection.extensions:
            replies = await connection.ask(b"".join(commands), step_by, len(commands))
        else:
            for number, command in enumerate(commands):
                if before and number == before and not replies[-1].positive:
                    return [*replies, *[replies[-1]] * (len(commands) - before)]
                replies += await connection.ask(command, step_by)
    except UpstreamLostError as error:
        lost = error
        replies += error.replies
    except asyncio.CancelledError:
        connection.abort("cancelled")
        raise
    for command, reply in zip(commands, replies, strict=lost is None):
        if reply.code >= 300 and (reply.code < 400 or command == RSET):
            raise connection.abort(f"unexpected reply to {command[:4].decode('ascii')}: {reply}")
    if lost is None:
        return replies
    if all(reply.positive for reply in replies):  # before the end of data they promise nothing
        raise lost
    return [*replies, *[lost.reply] * (len(commands) - len(replies))]
