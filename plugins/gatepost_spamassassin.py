"""The filter ``spamassassin``: asks SpamAssassin's daemon (spamd) about the whole message, as received.

    - name: spamassassin
      filter: spamassassin
      with: {address: "127.0.0.1:783"}
      action: quarantine

It speaks SPAMC/1.5 and asks for SYMBOLS: the answer to CHECK does not tell that a scan was cut off.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from socket import socket
from typing import ClassVar, Literal

from gatepost import (
    Action,
    AddHeader,
    Bytes,
    Edit,
    Match,
    Passed,
    PerRecipient,
    Place,
    Recipient,
    RemoveHeader,
    Transaction,
    Verdict,
    hookimpl,
)
from gatepost_servers import FinalError, Servers, exchange

__all__ = ["SpamAssassin"]

_ANSWER_BYTES = 256 << 10
_ANSWER = re.compile(
    rb"SPAMD/1\.\d (\d{1,3}) ([!-~]+)[^\r\n]*\r\n((?:[!-9;-~]+:[ -~]*\r\n)*)\r\n(.*)", re.DOTALL
)
_ERROR = re.compile(rb"SPAMD/\d\.\d [1-9]\d{0,2} [ -~]{0,200}")
_SPAM = re.compile(r"(True|Yes|False|No) ; (-?\d{1,9}(?:\.\d+)?) / (-?\d{1,9}(?:\.\d+)?)")
_SYMBOLS = re.compile(r"(?:\w+(?:,\w+)*)?", re.ASCII)
_CUT_OFF = "TIME_LIMIT_EXCEEDED"
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,253}", re.ASCII)
_PLACES = {"{recipient}": "address", "{local_part}": "local_part"}
_FIELDS = tuple(
    f"X-Spam{end}"
    for end in ("", "-Bar", "-Checker-Version", "-Flag", "-Level", "-Report", "-Score", "-Status")
)
"""What mail programs and servers trust, in mail of a sender too."""
_STARS_LIMIT = 50
_TESTS_CHARACTERS = 4000
_SHOWN_SYMBOLS = 40


@dataclass(frozen=True, slots=True)
class _Scan:
    """What spamd found."""

    is_spam: bool
    score: float
    required: float
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        more = len(self.symbols) - _SHOWN_SYMBOLS
        shown = ", ".join(self.symbols[:_SHOWN_SYMBOLS]) + (f" and {more} more" if more > 0 else "")
        return f"SpamAssassin: score {self.score:g} of {self.required:g}" + (f": {shown}" if shown else "")


@dataclass(kw_only=True, eq=False)
class SpamAssassin:
    """A hit for each message that SpamAssassin calls spam, with its score."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    place: Place
    """For log and counters."""
    address: str | list[str] = "127.0.0.1:783"
    """Where spamd listens: ``host:port``, ``[IPv6]:port`` or ``unix:/path``; several are asked in this order
    until one answers."""
    user: str = ""
    """Whose preferences count: a name, ``{recipient}`` or ``{local_part}``; empty: the server's own."""
    users_limit: int = 10
    """A message with more different users is scanned once, with the server's own preferences."""
    hits: Literal["spam", "all"] = "spam"
    """``all``: each message is a hit that counts its score; leave the rule's ``action`` out then."""
    fields: bool = True
    """A hit replaces the message's X-Spam fields by what was found."""
    max_size: Bytes = 8 << 20
    """A larger message is not sent to spamd, and is a failure."""
    _servers: Servers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.users_limit < 1:
            raise ValueError(f"users_limit: {self.users_limit}, expected at least 1")
        if self.user and self.user not in _PLACES and not _USER.fullmatch(self.user):
            raise ValueError(f"user: {self.user!r}, expected a name, {' or '.join(_PLACES)}")
        self._servers = Servers("spamd", self.address, self.place)

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | PerRecipient | Passed | None:
        """Scan the message, once for each user; raises an OSError if that is not possible."""
        content = transaction.message.content
        if len(content) > self.max_size:
            raise FinalError(
                f"the message has {len(content):,} bytes, max_size of this rule is {self.max_size:,}"
            )
        recipients = transaction.envelope.recipients
        users = {one.address: self._user_of(one) for one in recipients}
        different = list(dict.fromkeys(users.values())) or [""]
        if len(different) > self.users_limit:
            different = [""]
        scans = await self._scan_all(content, different)
        if len(scans) == 1:
            return self._verdict(scans[0]) or Passed(reason=str(scans[0]))
        verdicts = dict(zip(different, map(self._verdict, scans), strict=True))
        return PerRecipient(verdicts={address: verdicts[user] for address, user in users.items()})

    @hookimpl
    async def learn_message(
        self,
        content: bytes,
        kind: Literal["spam", "ham"],
        recipients: tuple[Recipient, ...],
    ) -> str | None:
        """Have spamd learn a message, for each user; needs its option ``--allow-tell``."""
        users = dict.fromkeys(self._user_of(one) for one in recipients) or {"": None}
        told = {"Message-class": kind, "Set": "local"}
        changed = False
        for user in users:
            headers = {**told, "User": user} if user else told

            async def question(spamd: socket, headers: Mapping[str, str] = headers) -> bool:
                answer, _ = await _asked(spamd, "TELL", content, headers)
                return "didset" in answer or "didremove" in answer

            changed |= await self._servers.ask(question)
        return None if changed else "already learned"

    def _user_of(self, recipient: Recipient) -> str:
        """Empty where the recipient's address cannot be a user's name."""
        if self.user not in _PLACES:
            return self.user
        name = str(getattr(recipient, _PLACES[self.user])).lower()
        return name if _USER.fullmatch(name) else ""

    async def _scan_all(self, content: bytes, users: Sequence[str]) -> list[_Scan]:
        if len(users) == 1:
            return [await self._scan(content, users[0])]
        scans = [asyncio.ensure_future(self._scan(content, user)) for user in users]
        try:
            return await asyncio.gather(*scans)
        except asyncio.CancelledError:
            raise TimeoutError(f"spamd has not answered for all of {len(users)} users") from None
        finally:
            for scan in scans:
                scan.cancel()

    async def _scan(self, content: bytes, user: str) -> _Scan:
        headers = {"User": user} if user else {}

        async def question(spamd: socket) -> _Scan:
            return _scan_of(*await _asked(spamd, "SYMBOLS", content, headers))

        return await self._servers.ask(question)

    def _verdict(self, scan: _Scan) -> Verdict | None:
        if not scan.is_spam and self.hits == "spam":
            return None
        self.place.count("spam" if scan.is_spam else "ham")
        return Verdict(
            reason=str(scan),
            action=Action.TAG,
            score=max(-1000.0, min(1000.0, scan.score)),
            edits=_edits(scan) if self.fields else (),
            matches=tuple(Match(where="symbol", text=symbol) for symbol in scan.symbols),
        )


async def _asked(
    spamd: socket, command: str, content: bytes, headers: Mapping[str, str]
) -> tuple[dict[str, str], bytes]:
    """The header and the body of spamd's answer; raises ConnectionError if there is none."""
    content = content or b"\r\n"  # of Content-length 0 spamd waits for more
    lines = (f"{command} SPAMC/1.5", f"Content-length: {len(content)}", *map(": ".join, headers.items()))
    request = "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")
    view = memoryview(content)
    answer, complete = await exchange(spamd, (request, view[:-1], view[-1:]), limit_bytes=_ANSWER_BYTES)
    if error := _ERROR.match(answer):
        raise ConnectionError(f"it answers {error[0].decode()!r}")
    found = _ANSWER.fullmatch(answer)
    if not found or found[1] != b"0":
        raise ConnectionError(f"unexpected answer: {answer[:200]!r}")
    if not complete:
        raise ConnectionError("it answered before it had the whole message")
    given: dict[str, str] = {}
    for line in found[3].decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        if name.lower() in given:
            raise ConnectionError(f"{name} twice in its answer: {answer[:200]!r}")
        given[name.lower()] = value.strip()
    return given, found[4]


def _scan_of(headers: Mapping[str, str], body: bytes) -> _Scan:
    """What an answer to SYMBOLS means; raises ConnectionError, or FinalError if the scan was cut off."""
    length, spam = headers.get("content-length", ""), _SPAM.fullmatch(headers.get("spam", ""))
    symbols = body.decode("ascii", "replace").strip("\r\n")
    if length != str(len(body)) or not spam or not _SYMBOLS.fullmatch(symbols):
        raise ConnectionError(f"unexpected answer: {dict(headers)}, {body[:200]!r}")
    names = tuple(symbols.split(",")) if symbols else ()
    if _CUT_OFF in names:
        raise FinalError("it has cut the scan off at its time limit (time_limit)")
    return _Scan(
        is_spam=spam[1] in {"True", "Yes"}, score=float(spam[2]), required=float(spam[3]), symbols=names
    )


def _edits(scan: _Scan) -> tuple[Edit, ...]:
    """The fields that SpamAssassin writes, in place of those that the message has."""
    score, required = f"{scan.score:.1f}", f"{scan.required:.1f}"
    tests = ", ".join(scan.symbols)[:_TESTS_CHARACTERS] or "none"
    word = "Yes" if scan.is_spam else "No"
    status = f"{word}, score={score} required={required} tests={tests}"
    added = [("X-Spam-Status", status), ("X-Spam-Score", score)]
    if scan.score >= 1:
        added.append(("X-Spam-Level", "*" * min(int(scan.score), _STARS_LIMIT)))
    if scan.is_spam:
        added.append(("X-Spam-Flag", "YES"))
    return (*map(RemoveHeader, _FIELDS), *(AddHeader(*one) for one in added))
