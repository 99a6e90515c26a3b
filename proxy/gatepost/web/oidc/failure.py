"""Why somebody could not log in: a reason for the log, and what a page says about it."""

from enum import Enum

__all__ = ["LoginError", "Why"]


class Why(Enum):
    """What a page says: status, title and advice."""

    UNAVAILABLE = (
        502,
        "The log-in server did not work",
        "Try again in a moment. A password of this desk works meanwhile.",
    )
    BUSY = (503, "Too many people log in at this moment", "Try again in a moment.")
    REFUSED = (403, "The log-in server did not let you in", "The log-in was cancelled, or refused there.")
    STALE = (
        400,
        "This log-in is over",
        "It took too long, it was used already, or it was begun in another window or browser. Log in again.",
    )
    NO_ROLE = (
        403,
        "You have no role here",
        "Nobody has given this account a role in this desk. Ask its administrator, or use another account.",
    )

    @property
    def status(self) -> int:
        """The status of the page."""
        return self.value[0]

    @property
    def title(self) -> str:
        """The heading of the page."""
        return self.value[1]

    @property
    def advice(self) -> str:
        """What the user can do."""
        return self.value[2]


class LoginError(Exception):
    """Somebody could not log in; the text is the reason, for the log: printable, and without secrets."""

    def __init__(self, why: Why, reason: str) -> None:
        super().__init__(reason)
        self.why = why
