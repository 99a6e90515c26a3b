"""What goes wrong with the store; the texts are for operators and name files, never for SMTP clients."""

__all__ = ["StoreError", "StoreFull", "StoreUnavailable"]


class StoreError(Exception):
    """The store cannot do what was asked; nothing of it was stored."""


class StoreFull(StoreError):  # noqa: N818 - it is said as it is meant
    """The disk or the database has no room (the reply is 452 4.3.1)."""


class StoreUnavailable(StoreError):  # noqa: N818 - as above
    """Locked, unreadable, unwritable or gone; it may be back later (the reply is 451 4.3.0)."""
