"""One entry of ``rules``, ready to be asked: made by `loader`, walked by `pipeline`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.config.conditions import Condition
from proxy.edits import Edit
from proxy.mail import Stage
from proxy.verdict import Action

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
