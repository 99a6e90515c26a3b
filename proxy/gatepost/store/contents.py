"""What a backup or a copy of a store holds."""

from pathlib import Path

from gatepost.values import value

__all__ = ["Contents", "Copied", "CopiedTable", "Progress", "Restored"]


@value
class Contents:
    """Of one file."""

    records: int
    """Of the journal."""
    messages: int
    """In the inbox and in quarantine, without those that were deleted."""
    size: int
    """Bytes of the file."""


@value
class Restored:
    """What `restore` did."""

    contents: Contents
    replaced: Path | None
    """Where the store is now that was there before; None: there was none."""


@value
class Progress:
    """How far a copy is, or the comparison of one."""

    table: str
    what: str
    """``copied`` or ``compared``."""
    rows: int
    of: int
    """The rows of the whole table."""
    size: int
    """Bytes of the content of messages."""
    seconds: float
    """Since the first row of this table."""
    done: bool
    """The table is complete."""


@value
class CopiedTable:
    """A table of a copy."""

    name: str
    rows: int
    digest: str
    """SHA-256 over all rows in the order of their keys, in hexadecimal digits."""


@value
class Copied:
    """What a copy holds, compared with its source."""

    tables: tuple[CopiedTable, ...]
    messages: int
    """Also those that were deleted, whose content is empty."""
    size: int
    """Bytes of the content of all messages."""
    messages_digest: str
    """SHA-256 over the SHA-256 of each message's content."""
    written: int = 0
    """Rows that were written; 0: the copy was complete before."""
