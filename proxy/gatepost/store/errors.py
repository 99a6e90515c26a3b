"""What goes wrong with the store; the texts are for operators and name files, never for SMTP clients."""

__all__ = [
    "ConflictError",
    "StoreDiffers",
    "StoreError",
    "StoreForbidden",
    "StoreFull",
    "StoreUnavailable",
    "StoreUnusable",
]


class StoreError(Exception):
    """The store cannot do what was asked; nothing of it was stored."""


class StoreFull(StoreError):  # noqa: N818 - the name is the condition
    """The disk or the database has no room (the reply is 452 4.3.1)."""


class StoreUnavailable(StoreError):  # noqa: N818 - as above
    """Locked, unreadable, unwritable or gone; it may be back later (the reply is 451 4.3.0)."""


class StoreForbidden(StoreUnavailable):
    """The user of the database lacks a right, which an administrator may grant while Gatepost runs."""


class StoreUnusable(StoreError):  # noqa: N818 - as above
    """The settings name a store that cannot be used as it is: of another version, or without a right."""


class StoreDiffers(StoreError):  # noqa: N818 - as above
    """A copy is not the same as its source; the text names the first difference."""


class ConflictError(Exception):
    """A kept message is not as the caller saw it: released, deleted, or being released by somebody else.

    The store works and nothing was changed, so this is no `StoreError`. The text is for operators.
    """
