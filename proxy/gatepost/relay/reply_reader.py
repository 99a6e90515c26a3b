"""Bytes from upstream as replies, strictly and within bounds (RFC 5321 section 4.2)."""

import re
from collections.abc import Sequence
from functools import lru_cache

from gatepost.model.verdict import Reply

__all__ = ["GarbageError", "ReplyReader", "make_reply"]

_LINE_OCTETS = 2048
"""With its CRLF; four times what section 4.5.3.1.5 allows."""
_REPLY_OCTETS = 32 << 10
_REPLY_LINES = 100
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: .*)?", re.ASCII | re.DOTALL)


class GarbageError(Exception):
    """Upstream sent something that is not an SMTP reply."""

    def __init__(self, what: str, replies: Sequence[Reply] = ()) -> None:
        super().__init__(what)
        self.replies = replies
        """Complete replies that arrived before it in the same chunk."""


class ReplyReader:
    """Assembles replies from the received bytes."""

    def __init__(self) -> None:
        self._rest = b""
        self._code = b""
        self._lines: list[str] = []
        self._octets = 0

    @property
    def is_empty(self) -> bool:
        """True if no incomplete reply is buffered."""
        return not self._rest and not self._lines

    def feed(self, octets: bytes) -> list[Reply]:
        """Add received bytes and return the replies that are complete now; raises GarbageError."""
        if not (self._rest or self._lines) and octets.find(b"\n") == len(octets) - 1:
            reply = _one_line(octets[:-1])
            if reply:
                return [reply]
        *lines, self._rest = (self._rest + octets).split(b"\n")
        replies: list[Reply] = []
        try:
            for line in lines:
                if reply := self._line(line):
                    replies.append(reply)  # noqa: PERF401 - those before an error are needed
        except GarbageError as error:
            raise GarbageError(str(error), replies) from None
        if len(self._rest) > _LINE_OCTETS:
            raise GarbageError("a reply line without end", replies)
        return replies

    def _line(self, line: bytes) -> Reply | None:
        if not self._lines and (reply := _one_line(line)):
            return reply
        found = _LINE.fullmatch(line, 0, len(line) - 1) if line.endswith(b"\r") else None
        if not found or len(line) >= _LINE_OCTETS:
            raise GarbageError(f"not an SMTP reply: {line[:80]!r}")
        code, separator, text = found.groups()
        if self._lines and code != self._code:
            raise GarbageError(f"a reply with the codes {self._code!r} and {code!r}")
        self._code = code
        self._lines.append((text or b"").decode("utf-8", "surrogateescape"))
        self._octets += len(line)
        if len(self._lines) > _REPLY_LINES or self._octets > _REPLY_OCTETS:
            raise GarbageError("a reply without end")
        if separator == b"-":
            return None
        lines, self._lines, self._octets = self._lines, [], 0
        return make_reply(int(code), lines)


@lru_cache(maxsize=256)
def _one_line(line: bytes) -> Reply | None:
    """A reply of one line; cached, since most replies repeat. None: it has several lines or is invalid."""
    if line[3:4] != b" " or not line.endswith(b"\r") or len(line) >= _LINE_OCTETS:
        return None
    found = _LINE.fullmatch(line, 0, len(line) - 1)
    return make_reply(int(found[1]), [found[3].decode("utf-8", "surrogateescape")]) if found else None


def make_reply(code: int, lines: list[str]) -> Reply:
    """Make a reply; the enhanced status code (RFC 2034) is removed from each line that repeats it."""
    found = _ENHANCED.fullmatch(lines[0])
    if not found or found[1][0] != str(code)[0]:
        return Reply(code=code, text="\n".join(lines))
    enhanced = found[1]
    prefix = f"{enhanced} "
    return Reply(
        code=code,
        enhanced=enhanced,
        text="\n".join("" if line == enhanced else line.removeprefix(prefix) for line in lines),
    )
