"""What the reading of one message may cost, and what it had to say about it."""

from dataclasses import dataclass, field

__all__ = ["Bounds"]

_WARNINGS_LIMIT = 20
"""More of them tell the operator nothing new."""
_NAMES_LIMIT = 20_000
"""All readings of the names of all attachments."""
_SPARE_BYTES = 1 << 20


@dataclass(slots=True)
class Bounds:
    """Counts down what is left while a message is read; past a bound the rest of it stays unread."""

    bytes_left: int
    """That may still be decoded again: each message in a message costs the time of the whole."""
    names_left: int = _NAMES_LIMIT
    warnings: list[str] = field(default_factory=list)
    """What could not be parsed or was repaired."""
    unread: str = ""
    """Why a part of the message was not read, for a person; empty where all was."""

    @classmethod
    def of(cls, content: bytes) -> "Bounds":
        """Those of a message, by its size."""
        return cls(bytes_left=4 * len(content) + _SPARE_BYTES)

    def may_spend(self, octets: int) -> bool:
        """True if the message is not too large for another reading of that many bytes."""
        self.bytes_left -= octets
        if self.bytes_left < 0:
            self.leave_unread("too many readings, or too much in the files of it")
        return self.bytes_left >= 0

    def may_name(self, names: int) -> bool:
        """True if that many more names of attachments may be kept."""
        self.names_left -= names
        if self.names_left < 0:
            self.leave_unread(f"more than {_NAMES_LIMIT} names of attachments")
        return self.names_left >= 0

    def leave_unread(self, why: str) -> None:
        """Note that not all of the message is read; the first reason counts."""
        if not self.unread:
            self.unread = why
            self.warn(f"not all of the message was read: {why}")

    def warn(self, warning: str) -> None:
        """Note a warning, unless there are very many."""
        if len(self.warnings) < _WARNINGS_LIMIT:
            self.warnings.append(warning)
