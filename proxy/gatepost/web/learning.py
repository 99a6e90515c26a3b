"""What people say about messages in the desk is passed on to the rules that learn."""

from collections.abc import Callable, Sequence
from typing import Literal

from gatepost.model.learnt import Learnt
from gatepost.store import KeptMessage
from gatepost.values import value

__all__ = ["Kind", "Learning"]

Kind = Literal["spam", "ham"]


@value
class Learning:
    """The rules that learn."""

    rules: Callable[[], Sequence[str]]
    """Their names now; empty: none learns."""
    learn: Callable[[KeptMessage, Kind, str], Sequence[Learnt]]
    """Have them learn a message, for a person of that name; blocks. Raises ConfigError if a rule is wrong."""
