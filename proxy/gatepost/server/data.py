"""The octets of a message: found in the stream, checked, bounded and put together.

Nothing here knows of sockets. `DotReader` finds the end of DATA (RFC 5321 section 4.1.1.4) and takes
the transparency dots out; `Content` is what DATA and BDAT (RFC 3030) collect into.
"""

import re
from io import BytesIO
from typing import Final, Literal

from gatepost.config.settings import Limits
from gatepost.server import replies
from gatepost.verdict import Reply

__all__ = ["BareNewline", "Content", "DotReader", "LineDotReader", "MemoryBudget"]

BareNewline = Literal["reject", "normalise", "accept", "keep"]
"""What is done with CR or LF alone, and with NUL, in a message.

With ``accept`` they stay, but a message is refused that holds what some server takes for its end (SMTP
smuggling). With ``keep`` it is not: for who relays nothing.
"""

_AS_IT_IS: Final = frozenset(("accept", "keep"))
_END: Final = b"\r\n.\r\n"
_LINES_END: Final = re.compile(rb"\n\.\r?\n")
_NEWLINE: Final = re.compile(rb"\r\n?|\n")
_SOMEBODYS_END: Final = re.compile(rb"[\r\n\0]\.[\r\n\0](?<!\r\n..)", re.DOTALL)
"""A dot alone on what some server takes for a line; behind CRLF it has its transparency dot upstream."""


class MemoryBudget:
    """The octets that all messages in flight may take together."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def has(self, octets: int) -> bool:
        """True if so many octets are free now; nothing is taken."""
        return octets <= self._free

    def take(self, octets: int) -> bool:
        """Takes them, or says that there are not so many."""
        if octets > self._free:
            return False
        self._free -= octets
        return True

    def give_back(self, octets: int) -> None:
        """What was taken before."""
        self._free += octets


class Content:
    """One message while it comes in.

    Past a limit nothing more is kept, but all is still counted: the client is told only when its
    last octet was read. `release` gives the memory back to the budget.
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
    """Why the message cannot be taken; None while it can."""
    size: int
    """Octets received, without transparency dots."""

    def __init__(self, limits: Limits, budget: MemoryBudget, bare_newline: BareNewline) -> None:
        self._limits = limits
        self._budget = budget
        self._bare_newline = bare_newline
        # Most messages are of one piece, which is kept as it is. Of more, since getvalue() of a BytesIO
        # does not copy, the peak is the message's size, not twice that.
        self._kept: bytes | BytesIO = b""
        self._taken = 0
        self._last = b"\r\n"  # what is before the next octets, as far as an end may need it
        self._cr = b""  # a CR at the end of a chunk, until it is known what follows
        self._unended = 0  # octets of the line that has no end yet
        self.refusal = None
        self.size = 0

    def add(self, octets: bytes) -> None:
        """The next octets of the message."""
        self.size += len(octets)
        if self.refusal:
            return
        if self._cr:
            octets = self._cr + octets
        self._cr = b"\r" if octets[-1:] == b"\r" else b""
        self._keep(octets[:-1] if self._cr else octets)

    def finish(self) -> bytes:
        """The message, after its last octet; to be asked once, and useless where it was refused."""
        if self._cr:
            self._keep(self._cr)
        if self._bare_newline == "accept" and self._holds_an_end(b"\r\n"):
            self.refuse(replies.BARE_NEWLINE)
        kept, self._kept = self._kept, b""
        return kept.getvalue() if isinstance(kept, BytesIO) else kept

    def refuse(self, reply: Reply) -> None:
        """Keeps nothing from now on; the first reason stands."""
        self.refusal = self.refusal or reply
        self._kept = b""
        self._cr = b""
        self.release()

    def release(self) -> None:
        """Gives its memory back to the budget."""
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
            # in this order it does not matter how the octets came in
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
        """True if some server would see the end of the message in them, or in them and what came before."""
        seen = self._last + octets
        self._last = seen[-3:]
        return _SOMEBODYS_END.search(seen, 1) is not None

    def _lines_fit(self, octets: bytes) -> bool:
        """Goes from line end to line end in steps as wide as a line may be."""
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
    rest = octets.replace(b"\r\n", b"")  # and three looks for one octet are the fastest way known
    return 0x0A in rest or 0x0D in rest or 0 in rest


class DotReader:
    """Takes the octets after 354 as they come and finds the one true end, CRLF "." CRLF."""

    __slots__ = ("_content", "_held", "_skip")

    def __init__(self, content: Content) -> None:
        self._content = content
        # the CRLF of the DATA command may be the first one of the end (section 4.1.1.4)
        self._held = b"\r\n"
        self._skip = 2

    def feed(self, chunk: bytes) -> int | None:
        """How many octets of the chunk belong to the message, None if all and it goes on."""
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

    Only a server that relays nothing may read so: what it takes for the end, others take for text.
    """

    __slots__ = ("_content", "_held", "_skip")

    def __init__(self, content: Content) -> None:
        self._content = content
        self._held = b"\n"
        self._skip = 1

    def feed(self, chunk: bytes) -> int | None:
        """How many octets of the chunk belong to the message, None if all and it goes on."""
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
    """The longest tail of the octets that more octets could make the end of the message."""
    for length in (4, 3, 2, 1):
        if octets.endswith(_END[:length]):
            return _END[:length]
    return b""
