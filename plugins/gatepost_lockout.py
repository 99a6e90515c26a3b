"""The filter ``lockout``: refuses for a time the clients whose sessions have failed too often.

    - name: guessers
      filter: lockout
      with:
        failed_auth: 10/hour
        bad_commands: 40/hour
        lock: 1h

Clients are counted when their sessions end, however they end, and at each listener by themselves. All workers
share the counts, and they outlive restarts.
"""

import asyncio
import ipaddress
import math
from dataclasses import dataclass
from typing import Annotated

from gatepost import (
    Action,
    Amount,
    Passed,
    Place,
    Reply,
    Seconds,
    Session,
    SessionRecord,
    State,
    Verdict,
    hookimpl,
)
from gatepost_rates import rate
from pydantic import Field

__all__ = ["Lockout"]

_DAY = 86400.0
_NO_LIMIT = 1 << 62
"""More is counted than the limit: all that counts is that it was reached."""


@dataclass(kw_only=True, eq=False)
class Lockout:
    """Refuses for a time the clients whose sessions have failed too often."""

    state: State
    place: Place
    failed_auth: str | None = "10/hour"
    """Wrong credentials in AUTH; None: not counted."""
    bad_commands: str | None = "40/hour"
    """Unknown and malformed commands."""
    refused_recipients: str | None = None
    """Recipients refused with 5xx."""
    lock: Seconds = 3600.0
    """How long a client is refused after its rate was reached."""
    trust: Seconds = 30.0 * _DAY
    """How long a client is not refused after a user has authenticated from there."""
    ipv4_prefix: Annotated[int, Field(ge=8, le=32)] = 32
    """Clients of one IPv4 network of this size are one."""
    ipv6_prefix: Annotated[int, Field(ge=16, le=128)] = 64
    """The same for IPv6."""

    def __post_init__(self) -> None:
        settings = {
            "failed_auth": self.failed_auth,
            "bad_commands": self.bad_commands,
            "refused_recipients": self.refused_recipients,
        }
        self._rates = {what: rate(what, text) for what, text in settings.items() if text is not None}
        if not self._rates:
            raise ValueError("nothing is counted: expected failed_auth, bad_commands or refused_recipients")

    @hookimpl
    async def filter_connect(self, session: Session) -> Verdict | Passed | None:
        """Refuse a client that is locked out."""
        if session.authenticated is not None:
            return None
        key = self._key(session.listener, session.client)
        until, is_trusted = await asyncio.gather(
            self.state.get(f"locked {key}"), self.state.get(f"trusted {key}")
        )
        wait = until - self.state.now() if isinstance(until, float) else 0.0
        if not 0 < wait <= self.lock:  # the clock was set, or the setting has changed
            return None
        if is_trusted is not None:
            self.place.count("trusted")
            return Passed(reason="locked out, but a user has authenticated from there")
        self.place.count("refused")
        text = f"Too many failures from your address, please try again in {math.ceil(wait)} seconds"
        reply = Reply(code=421, enhanced="4.7.0", text=text)
        return Verdict(reason=f"locked out for {wait:.0f} s more", action=Action.DEFER, reply=reply)

    @hookimpl
    async def report_session(self, record: SessionRecord) -> None:
        """Count what has failed in a session, and lock the client out if that was too much."""
        key = self._key(record.listener, ipaddress.ip_address(record.client))
        if record.authenticated is not None:
            await self.state.set(f"trusted {key}", 1, seconds=self.trust)
        counted = [
            (what, rate, amount) for what, rate in self._rates.items() if (amount := getattr(record, what))
        ]
        if not counted:
            return
        totals = await self.state.add(
            *(
                Amount(key=f"{what} {key}", amount=amount, seconds=rate.seconds, limit=_NO_LIMIT)
                for what, rate, amount in counted
            )
        )
        reached = [
            f"{what} {rate.text}"
            for (what, rate, _), found in zip(counted, totals, strict=True)
            if found.total >= rate.limit
        ]
        if reached:
            await self._lock_out(key, f"{record.client} has reached {', '.join(reached)}")

    async def _lock_out(self, key: str, why: str) -> None:
        """Lock it out from now on; says so once, although many sessions may end at once."""
        was_locked = await self.state.get(f"locked {key}") is not None
        await self.state.set(f"locked {key}", self.state.now() + self.lock, seconds=self.lock)
        if was_locked:
            return
        (told,) = await self.state.add(
            Amount(key=f"told {key}", amount=1, seconds=self.lock / 2, limit=1)  # over before the lock is
        )
        if told.wait_seconds:
            return
        self.place.count("locked")
        what = f"locked out for {self.lock:.0f} s"
        if await self.state.get(f"trusted {key}") is not None:
            what = "not locked out, since a user has authenticated from there"
        self.place.logger.warning("rule %s: %s: %s", self.place.rule, why, what)

    def _key(self, listener: str, client: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
        """The rule, the listener and the client's network: what is done at one of them counts there only."""
        prefix = self.ipv4_prefix if client.version == 4 else self.ipv6_prefix
        network = ipaddress.ip_network((client, prefix), strict=False)
        return f"{self.place.rule} {listener} {network}"
