"""Sessions that are held: a worker asks the web desk what to reply, and waits for a person or a test.

The worker sends what it knows over a connection of its own for each session that stops (`Holder`); the desk
lists these sessions and passes on the answers (`HeldSessions`). Neither stores anything.
"""

from gatepost.holding.channel import Channel
from gatepost.holding.held import Answer, Decided, Held
from gatepost.holding.held_sessions import Breakpoint, HeldSession, HeldSessions, NotHeldError, TooManyError
from gatepost.holding.holder import HoldEnd, Holder

__all__ = [
    "Answer",
    "Breakpoint",
    "Channel",
    "Decided",
    "Held",
    "HeldSession",
    "HeldSessions",
    "HoldEnd",
    "Holder",
    "NotHeldError",
    "TooManyError",
]
