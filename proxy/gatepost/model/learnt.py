"""What came of a rule that was to learn a message."""

from gatepost.values import value

__all__ = ["Learnt"]


@value
class Learnt:
    """One rule's answer."""

    rule: str
    """The rule's name."""
    succeeded: bool
    """False: its filter failed, and `text` says why."""
    text: str
    """One line for the person, may be empty."""
