"""The filter ``clamav``: asks a ClamAV daemon (clamd) about the whole message, as received.

clamd itself unpacks the message: MIME parts, archives, documents. A message that it refuses to scan is a
failure of the rule (``on_error``) and never clean. Of content beyond its limits, and of encrypted content, it
reports "OK", unless its settings have ``AlertExceedsMax yes`` and ``AlertEncrypted yes``.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from socket import socket
from typing import ClassVar, Literal

from gatepost import Action, Bytes, Match, Passed, Place, Seconds, Transaction, Verdict, hookimpl
from gatepost_servers import FinalError, Servers, exchange

__all__ = ["ClamAV"]

Then = Literal["hit", "nothing", "tag", "quarantine", "discard", "defer", "reject"]
_COMMAND = b"zINSTREAM\0"
_CHUNK_BYTES = 1 << 20
_SMALL_BYTES = 1 << 13
"""Up to here all is sent at once."""
_END = bytes(4)
"""An empty chunk."""
_ANSWER_BYTES = 1024
"""Far longer than any signature's name; a longer answer is not clamd's."""
_FOUND = re.compile(rb"stream: ([!-~][ -~]*) FOUND")
_VERSION = re.compile(
    r"ClamAV [^/\0]{1,100}(?:/(\d{1,9})/(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}))?", re.ASCII
)
_CHECK_SECONDS = 600.0
_REFUSAL_SECONDS = 1.0
"""clamd refuses a chunk as soon as it knows its length."""


@dataclass(kw_only=True, eq=False)
class ClamAV:
    """A hit for every message in which clamd finds a signature."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    place: Place
    """For log and counters."""
    address: str | list[str] = "unix:/run/clamav/clamd.ctl"
    """Where clamd listens: ``unix:/path``, ``host:port`` or ``[IPv6]:port``; several are asked in this order
    until one answers."""
    limits: Then = "hit"
    """What is done with content beyond clamd's limits, which it could not scan; ``hit``: as with a virus."""
    encrypted: Then = "hit"
    """What is done with encrypted content."""
    max_size: Bytes | None = None
    """``StreamMaxLength`` of clamd: a larger message is not sent, and is a failure."""
    max_age: Seconds = 3 * 86400.0
    """Older signatures are reported."""
    watch: bool = True
    """Ask each server for its version and its limit at the start and every ten minutes, and log problems."""
    _servers: Servers = field(init=False, repr=False)
    _watching: asyncio.Task[None] | None = field(default=None, init=False, repr=False)
    _reported: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        self._servers = Servers("clamd", self.address, self.place)

    async def open(self) -> None:
        """Begin to watch the servers."""
        if self.watch:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """End that."""
        if self._watching:
            self._watching.cancel()
            await asyncio.wait((self._watching,))

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | Passed | None:
        """Scan the message; raises an OSError without a usable answer of clamd."""
        content = transaction.message.content
        if self.max_size is not None and len(content) > self.max_size:
            raise FinalError(
                f"the message has {len(content):,} bytes, max_size of this rule is {self.max_size:,}"
            )

        async def question(clamd: socket) -> str:
            return await _signature(clamd, content)

        signature = await self._servers.ask(question)
        if not signature:
            return None
        then: Then = "hit"
        reason = f"ClamAV found {signature}"
        if signature.startswith("Heuristics.Limits.Exceeded"):
            then, reason = self.limits, f"ClamAV could not scan all of it: {signature}"
        elif signature.startswith("Heuristics.Encrypted"):
            then, reason = self.encrypted, f"ClamAV could not look into it: {signature}"
        if then == "nothing":
            return Passed(reason=reason)
        return Verdict(
            reason=reason,
            action=None if then == "hit" else Action(then),
            matches=(Match(where="message", text=signature),),
        )

    async def _watch(self) -> None:
        while True:
            await self._check_versions()
            await self._check_limits()
            await asyncio.sleep(_CHECK_SECONDS)

    async def _check_versions(self) -> None:
        """Log each server's version and signatures when they change, and warn of old ones."""
        for address, answer in (await self._servers.ask_each(_version)).items():
            if isinstance(answer, OSError):
                continue
            version, made = answer
            self._report(address, f"is {version}")
            if made is None:
                continue
            self.place.data_made(address, made.timestamp())
            age = (datetime.now(UTC) - made).total_seconds()
            is_old = age > self.max_age
            self.place.count("signatures_old" if is_old else "signatures_current")
            if is_old:
                self._report(
                    address, f"has signatures of {made:%Y-%m-%d}, {age / 86400:.0f} days old", bad=True
                )

    async def _check_limits(self) -> None:
        """Warn of a server that refuses messages which the gateway accepts."""
        size = self.place.message_size

        async def takes(clamd: socket) -> bool:
            return await _takes(clamd, size)

        for address, answer in (await self._servers.ask_each(takes)).items():
            if answer is False:
                self._report(
                    address,
                    f"refuses a message of {size:,} bytes, which limits.message_size allows: raise its "
                    "StreamMaxLength",
                    bad=True,
                )

    def _report(self, address: str, what: str, *, bad: bool = False) -> None:
        """Log it, if it was not logged before."""
        line = f"clamd at {address} {what}"
        if line not in self._reported:
            self._reported.add(line)
            (self.place.logger.warning if bad else self.place.logger.info)("%s", line)


async def _signature(clamd: socket, content: bytes) -> str:
    """The name of what clamd found, empty if it is clean; raises ConnectionError."""
    answer, complete = await exchange(clamd, _chunks(content), limit_bytes=_ANSWER_BYTES, end=b"\0")
    reply, nul, more = answer.partition(b"\0")
    if not nul or more:
        raise ConnectionError(f"it closed the connection or sent an incomplete reply: {answer[:200]!r}")
    if found := _FOUND.fullmatch(reply):
        return found[1].decode("ascii")
    if reply.startswith(b"INSTREAM size limit exceeded"):
        raise FinalError(
            f"the message is larger than its StreamMaxLength: {reply.decode('ascii', 'replace')!r}"
        )
    if reply != b"stream: OK":
        raise ConnectionError(f"unexpected reply: {reply[:200]!r}")
    if not complete:
        raise ConnectionError("it reported clean before it had the whole message")
    return ""


def _chunks(content: bytes) -> Iterator[bytes | memoryview]:
    """The command and the message in the format of clamd(8): each chunk after its length."""
    if 0 < len(content) <= _SMALL_BYTES:
        yield b"".join((_COMMAND, len(content).to_bytes(4), content, _END))
        return
    yield _COMMAND
    view = memoryview(content)
    for start in range(0, len(content), _CHUNK_BYTES):
        chunk = view[start : start + _CHUNK_BYTES]
        yield len(chunk).to_bytes(4)
        yield chunk
    yield _END


async def _version(clamd: socket) -> tuple[str, datetime | None]:
    """Version and signatures, and when the signatures were made, if clamd says so; raises ConnectionError."""
    answer, _ = await exchange(clamd, (b"zVERSION\0",), limit_bytes=_ANSWER_BYTES, end=b"\0")
    text = answer.removesuffix(b"\0").decode("ascii", "replace")
    found = _VERSION.fullmatch(text)
    if not found:
        raise ConnectionError(f"unexpected reply to VERSION: {answer[:200]!r}")
    made = None
    if found[2]:
        with suppress(ValueError):
            made = datetime.strptime(found[2], "%a %b %d %H:%M:%S %Y").astimezone(UTC)
    return text, made


async def _takes(clamd: socket, size: int) -> bool:
    """False if clamd refuses a chunk of that size, of which nothing is sent; raises ConnectionError."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(clamd, _COMMAND + min(size, 0xFFFFFFFF).to_bytes(4))
    try:
        async with asyncio.timeout(_REFUSAL_SECONDS):
            return b"size limit" not in await loop.sock_recv(clamd, _ANSWER_BYTES)
    except TimeoutError:
        return True
