"""Octets from upstream -> replies, strictly and within bounds (RFC 5321 section 4.2)."""

import re

from proxy.verdict import Reply

__all__ = ["GarbageError", "ReplyReader"]

_LINE_OCTETS = 2048
"""Four times what section 4.5.3.1.5 allows."""
_LINES = 100
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: (.*))?", re.ASCII)


class GarbageError(Exception):
    """What upstream sent is no SMTP reply."""


class ReplyReader:
    """Puts replies together from what arrives."""

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[tuple[bytes, bytes]] = []

    @property
    def is_empty(self) -> bool:
        """True if no part of a reply waits for its rest."""
        return not self._buffer and not self._lines

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that are complete now; raises GarbageError."""
        *lines, self._buffer = (self._buffer + octets).split(b"\n")
        if len(self._buffer) > _LINE_OCTETS:
            raise GarbageError("a reply line without end")
        return [reply for line in lines if (reply := self._line(line))]

    def _line(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line[:-1]) if line.endswith(b"\r") and len(line) <= _LINE_OCTETS else None
        if not found:
            raise GarbageError(f"no SMTP reply: {line[:80]!r}")
        code, separator, text = found.groups()
        self._lines.append((code, text or b""))
        if self._lines[0][0] != code or len(self._lines) > _LINES:
            raise GarbageError("a reply of different codes or without end")
        if separator == b"-":
            return None
        lines, self._lines = self._lines, []
        return _reply(int(code), [text.decode("utf-8", "replace") for _, text in lines])


def _reply(code: int, lines: list[str]) -> Reply:
    """The enhanced status code (RFC 2034) stands in each line; it is taken out of all that have the first's."""
    found = _ENHANCED.fullmatch(lines[0])
    if not found or found[1][0] != str(code)[0]:
        return Reply(code=code, text="\n".join(lines))
    enhanced = found[1]
    return Reply(
        code=code,
        enhanced=enhanced,
        text="\n".join(
            line[len(enhanced) :].removeprefix(" ") if line.startswith(enhanced) else line for line in lines
        ),
    )
