"""One entry of ``rules``, ready to be asked: made by `loader`, walked by `pipeline`."""

import dis
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gatepost.config.conditions import Condition
from gatepost.edits import Edit
from gatepost.mail import Stage
from gatepost.verdict import Action

__all__ = ["Hook", "Rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One hook that a filter implements."""

    function: Callable[..., Any]
    """The bound method."""
    arguments: tuple[str, ...]
    """The hook's arguments that it asks for, by name."""
    is_async: bool
    """True for ``async def``: it runs on the event loop; else in a worker thread."""
    never_waits: bool = field(init=False, compare=False)
    """True for ``async def`` without an ``await``: it needs no task of its own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "never_waits", self.is_async and not _can_wait(self.function))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A filter's instance with all that the operator said about it."""

    name: str
    hooks: Mapping[Stage, Hook]
    """The ``filter_*`` hooks that the filter implements."""
    report: Hook | None = None
    """Its ``report_transaction``, where it has one."""
    when: Condition | None = None
    """None: it is for everybody."""
    action: Action | None = None
    """None: what the verdict suggests, else reject."""
    reply: str | None = None
    """The reply template; its syntax was checked when it was loaded."""
    edits: tuple[Edit, ...] = ()
    """What ``tag`` does."""
    observe: bool = False
    on_error: Literal["defer", "skip", "quarantine"] = "defer"
    timeout_seconds: float = 10.0
    close: Callable[[], Any] | None = field(default=None, compare=False)
    """The filter's own ``close``, called when the rule is no longer used."""


def _can_wait(function: Callable[..., Any]) -> bool:
    """False if nothing in the coroutine function can suspend it."""
    code = getattr(function, "__code__", None)  # a method has that of its function
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(instruction.opname == "SEND" for instruction in dis.get_instructions(code))
