"""What a backup of a store holds."""

from pathlib import Path

from gatepost.values import value

__all__ = ["Contents", "Restored"]


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
