"""The AUTH command of a session (RFC 4954 section 4)."""

from dataclasses import replace
from time import time_ns

from gatepost.model import replies
from gatepost.server.any_auth import take_anybody
from gatepost.server.auth import MAX_RESPONSE, Ask, authenticate
from gatepost.server.replies import Refusal, SessionEnd
from gatepost.server.state import SessionState
from gatepost.server.wire import Wire
from gatepost.traffic.events import Authenticated
from gatepost.traffic.oddity import Oddity

__all__ = ["run_auth"]


async def run_auth(wire: Wire, state: SessionState, argument: str, *, in_transaction: bool) -> None:
    """Authenticate the client, and reply; raises `Refusal`, and SessionEnd after too many failures."""
    endpoint, session = wire.endpoint, state.session
    if endpoint.users is None:
        raise Refusal(replies.NOT_IMPLEMENTED)
    if endpoint.tolerance == "everything":
        await _take_anybody(wire, state, argument, in_transaction=in_transaction)
        return
    if not session.extended:
        raise Refusal(replies.HELO_FIRST)
    if session.tls is None and not endpoint.auth_without_tls:
        raise Refusal(replies.AUTH_NEEDS_TLS)
    if session.authenticated is not None:
        raise Refusal(replies.ALREADY_AUTHENTICATED)
    if in_transaction:
        raise Refusal(replies.NOT_IN_TRANSACTION)
    if state.failed_auth >= endpoint.limits.auth_failures:
        raise SessionEnd(replies.TOO_MANY_TRIES)
    mechanism, _, initial = argument.partition(" ")
    user, is_right = await authenticate(endpoint.users, mechanism, initial, _asking(wire))
    if not is_right:
        state.failed_auth += 1
        await state.handler.auth_failed(session, user, replies.BAD_CREDENTIALS)
        raise Refusal(replies.BAD_CREDENTIALS)
    _authenticated(wire, state, user)


async def _take_anybody(wire: Wire, state: SessionState, argument: str, *, in_transaction: bool) -> None:
    """Accept any user at any time."""
    session = state.session
    if not session.extended or session.authenticated is not None or in_transaction:
        wire.oddities += (Oddity.ORDER,)
    mechanism, _, initial = argument.partition(" ")
    octets = initial.strip().encode() if initial else None
    user, is_right = await take_anybody(mechanism, octets, _asking(wire))
    if not is_right:
        wire.oddities += (Oddity.AUTH,)
    _authenticated(wire, state, user)


def _authenticated(wire: Wire, state: SessionState, user: str) -> None:
    state.session = replace(state.session, authenticated=user)
    if wire.tap:
        wire.tap(Authenticated(at=time_ns() // 1000, session_id=wire.session_id, user=user))
    wire.reply(replies.AUTHENTICATED)


def _asking(wire: Wire) -> Ask:
    """Sends challenges; the responses to all of them must arrive within ``limits.command_time``."""
    deadline = wire.seconds_from_now(wire.endpoint.limits.command_time)

    async def ask(challenge: bytes) -> bytes:
        wire.send(challenge)
        return await wire.read_line(MAX_RESPONSE, deadline, secret=True)

    return ask
