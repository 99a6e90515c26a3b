"""The bytes of a message: found in the stream, checked, bounded and put together.

No sockets are used here. `DotReader` finds the end of DATA (RFC 5321 section 4.1.1.4) and removes the
transparency dots; `Content` collects the bytes from DATA and BDAT (RFC 3030).
"""

import re
from io import BytesIO
from typing import Final, Literal

from gatepost.config.limits import Limits
from gatepost.model import replies
from gatepost.model.verdict import Reply

__all__ = ["BareNewline", "Content", "DotReader", "LineDotReader", "MemoryBudget"]

BareNewline = Literal["reject", "normalise", "accept", "keep"]
"""What is done with CR or LF alone, and with NUL, in a message.

With ``accept`` they stay, but a message is refused if some server would find an end of data within it (SMTP
smuggling). ``keep`` also accepts such a message; it is for a server that relays nothing.
"""

_AS_IT_IS: Final = frozenset(("accept", "keep"))
_END: Final = b"\r\n.\r\n"
_LINES_END: Final = re.compile(rb"\n\.\r?\n")
_NEWLINE: Final = re.compile(rb"\r\n?|\n")
_END_FOR_SOME_SERVER: Final = re.compile(rb"[\r\n\0]\.[\r\n\0](?<!\r\n..)", re.DOTALL)
"""A dot alone on a line for a server that accepts CR, LF or NUL as the end of a line.

Not after CRLF: there the relay adds a transparency dot."""


class MemoryBudget:
    """The number of bytes that all messages in progress may take together."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def has(self, octets: int) -> bool:
        """True if this many bytes are free now; does not reserve them."""
        return octets <= self._free

    def take(self, octets: int) -> bool:
        """Reserve this many bytes; False if not enough are free."""
        if octets > self._free:
            return False
        self._free -= octets
        return True

    def give_back(self, octets: int) -> None:
        """Return reserved bytes."""
        self._free += octets


class Content:
    """One message while it is received.

    Above a limit no more bytes are stored, but they are still counted: the reply is sent only after the last
    byte was read. `release` returns the memory to the budget.
    """

    __slots__ = (
        "_bare_newline",
        "_budget",
        "_cr",
        "_kept",
        "_last",
        "_limits",
        "_taken",
        "_unended",
        "refusal",
        "size",
    )

    refusal: Reply | None
    """The reply that refuses the message; None if it is acceptable so far."""
    size: int
    """Bytes received, without transparency dots."""

    def __init__(self, limits: Limits, budget: MemoryBudget, bare_newline: BareNewline) -> None:
        self._limits = limits
        self._budget = budget
        self._bare_newline = bare_newline
        # Most messages arrive in one piece, which is stored unchanged. Several pieces go into a BytesIO: its
        # getvalue() does not copy, so the peak is the size of the message, not twice that.
        self._kept: bytes | BytesIO = b""
        self._taken = 0
        self._last = b"\r\n"  # the last bytes received, in which an end of data may begin
        self._cr = b""  # a CR at the end of a chunk, until the next byte is known
        self._unended = 0  # bytes of the current, incomplete line
        self.refusal = None
        self.size = 0

    def add(self, octets: bytes) -> None:
        """Add the next bytes of the message."""
        self.size += len(octets)
        if self.refusal:
            return
        if self._cr:
            octets = self._cr + octets
        self._cr = b"\r" if octets[-1:] == b"\r" else b""
        self._keep(octets[:-1] if self._cr else octets)

    def finish(self) -> bytes:
        """Return the message after its last byte. Call it once; check `refusal` afterwards."""
        if self._cr:
            self._keep(self._cr)
        if self._bare_newline == "accept" and self._holds_an_end(b"\r\n"):
            self.refuse(replies.BARE_NEWLINE)
        kept, self._kept = self._kept, b""
        return kept.getvalue() if isinstance(kept, BytesIO) else kept

    def refuse(self, reply: Reply) -> None:
        """Refuse the message and store nothing more; the first reply is used."""
        self.refusal = self.refusal or reply
        self._kept = b""
        self._cr = b""
        self.release()

    def release(self) -> None:
        """Release its memory to the budget."""
        self._budget.give_back(self._taken)
        self._taken = 0

    def _keep(self, octets: bytes) -> None:
        if self._bare_newline in _AS_IT_IS:
            if self._bare_newline == "accept" and self._holds_an_end(octets):
                self.refuse(replies.BARE_NEWLINE)
                return
        elif _has_bare_newline(octets):
            if self._bare_newline == "reject":
                self.refuse(replies.BARE_NEWLINE)
                return
            # in this order the result does not depend on the chunks
            octets = _NEWLINE.sub(b"\r\n", octets).replace(b"\0", b"")
        if self._taken + len(octets) > self._limits.message_size:
            self.refuse(replies.TOO_BIG)
            return
        if self._unended + len(octets) > self._limits.line and not self._lines_fit(octets):
            self.refuse(replies.LINE_TOO_LONG)
            return
        last_line = octets.rfind(b"\r\n")
        self._unended = self._unended + len(octets) if last_line < 0 else len(octets) - last_line - 2
        if not self._budget.take(len(octets)):
            self.refuse(replies.OUT_OF_MEMORY)
            return
        self._taken += len(octets)
        if isinstance(self._kept, BytesIO):
            self._kept.write(octets)
        elif self._kept:
            first, self._kept = self._kept, BytesIO()
            self._kept.write(first)
            self._kept.write(octets)
        else:
            self._kept = octets

    def _holds_an_end(self, octets: bytes) -> bool:
        """True if some server would find an end of data in these bytes or across the previous ones."""
        seen = self._last + octets
        self._last = seen[-3:]
        return _END_FOR_SOME_SERVER.search(seen, 1) is not None

    def _lines_fit(self, octets: bytes) -> bool:
        """True if no line is too long; looks for a CRLF within each maximum line length."""
        limit = self._limits.line
        line = -self._unended
        while len(octets) - line > limit:
            end = octets.rfind(b"\r\n", max(line, 0), line + limit + 2)
            if end < 0:
                return False
            line = end + 2
        return True


def _has_bare_newline(octets: bytes) -> bool:
    """True if there is a NUL, or a CR or LF that is not half of a CRLF."""
    rest = octets.replace(b"\r\n", b"")  # three searches for a single byte are the fastest way known
    return 0x0A in rest or 0x0D in rest or 0 in rest


class DotReader:
    """Reads the bytes after 354 in chunks and finds the end of data, CRLF "." CRLF and nothing else."""

    __slots__ = ("_content", "_held", "_skip")

    def __init__(self, content: Content) -> None:
        self._content = content
        # the CRLF of the DATA command may be the first one of the end (section 4.1.1.4)
        self._held = b"\r\n"
        self._skip = 2

    def feed(self, chunk: bytes) -> int | None:
        """How many bytes of the chunk belong to the message; None: all of them, and more follows."""
        held = len(self._held)
        octets = self._held + chunk
        dot = octets.find(b"\r\n.")
        end = octets.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self._held = b""
            self._emit(octets[: end + 2], stuffed=dot < end)
            return end + len(_END) - held
        self._held = _beginning_of_end(octets)
        self._emit(octets[: len(octets) - len(self._held)] if self._held else octets, stuffed=dot >= 0)
        return None

    def _emit(self, octets: bytes, *, stuffed: bool) -> None:
        if stuffed:
            octets = octets.replace(b"\r\n.", b"\r\n")
        if self._skip and octets:
            octets = octets[self._skip :]
            self._skip = 0
        if octets:
            self._content.add(octets)


class LineDotReader:
    """As `DotReader`, for a client that ends its lines with LF alone: a CR before it makes no difference.

    Only a server that relays nothing may use this: other servers would not see an end of data there.
    """

    __slots__ = ("_content", "_held", "_skip")

    def __init__(self, content: Content) -> None:
        self._content = content
        self._held = b"\n"
        self._skip = 1

    def feed(self, chunk: bytes) -> int | None:
        """How many bytes of the chunk belong to the message; None: all of them, and more follows."""
        held = len(self._held)
        octets = self._held + chunk
        if end := _LINES_END.search(octets):
            self._emit(octets[: end.start() + 1])
            return end.end() - held
        unknown = next((tail for tail in (b"\n.\r", b"\n.", b"\n") if octets.endswith(tail)), b"")
        self._held = unknown
        self._emit(octets[: len(octets) - len(unknown)])
        return None

    def _emit(self, octets: bytes) -> None:
        if octets:
            self._content.add(octets.replace(b"\n.", b"\n")[self._skip :])
            self._skip = 0


def _beginning_of_end(octets: bytes) -> bytes:
    """The longest end of these bytes that may be the beginning of the end of data."""
    for length in (4, 3, 2, 1):
        if octets.endswith(_END[:length]):
            return _END[:length]
    return b""
