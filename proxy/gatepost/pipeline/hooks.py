"""The hooks that a filter implements, checked by pluggy (the only user of its PluginManager).

pluggy checks that a filter's hooks are hooks and ask for arguments that exist. It calls none of them:
it would not await, and could not say which rule a verdict came from. `_arguments` looks at arguments once
more: pluggy leaves out those behind a star, and in some versions those with a default.
"""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pluggy

from gatepost import hookspecs
from gatepost.config.problems import did_you_mean, shown
from gatepost.model.mail import Stage
from gatepost.pipeline.faults import FOREIGN_FAULT, FilterError, described, text_of
from gatepost.pipeline.rule import Hook
from gatepost.values import value

__all__ = ["FilterHooks", "hooks_by_name", "hooks_of", "named_hooks"]

_STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "filter_connect": Stage.CONNECT,
        "filter_helo": Stage.HELO,
        "filter_mail": Stage.MAIL,
        "filter_rcpt": Stage.RCPT,
        "filter_message": Stage.MESSAGE,
    }
)
_FINISH = "finish_message"
_LEARN = "learn_message"
_REPORT = "report_transaction"
_REPORT_SESSION = "report_session"
_HOOKS = (*_STAGES, _FINISH, _LEARN, _REPORT, _REPORT_SESSION)


@value
class FilterHooks:
    """The hooks that a filter implements."""

    stages: Mapping[Stage, Hook]
    """Its ``filter_*`` hooks."""
    finish: Hook | None
    """Its ``finish_message``."""
    learn: Hook | None
    """Its ``learn_message``."""
    report: Hook | None
    """Its ``report_transaction``."""
    report_session: Hook | None
    """Its ``report_session``."""


def hooks_of(instance: object, name: str = "") -> FilterHooks:
    """The hooks of a filter.

    ``name`` is what a message calls the filter; without, the name of its class.

    Raises FilterError, a ValueError, for what is no filter.
    """
    return named_hooks(hooks_by_name(instance, name or type(instance).__name__))


def named_hooks(hooks: Mapping[str, Hook]) -> FilterHooks:
    """Hooks by what they are for, from hooks by their names."""
    return FilterHooks(
        stages={stage: hooks[name] for name, stage in _STAGES.items() if name in hooks},
        finish=hooks.get(_FINISH),
        learn=hooks.get(_LEARN),
        report=hooks.get(_REPORT),
        report_session=hooks.get(_REPORT_SESSION),
    )


def hooks_by_name(instance: object, name: str) -> dict[str, Hook]:
    """As `hooks_of`, by the names of the methods."""
    manager = pluggy.PluginManager("gatepost")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(instance, name)
    except pluggy.PluginValidationError as error:
        raise _wrong_argument(instance, name) or FilterError(
            f"filter {shown(name)}: {text_of(error)}"
        ) from error
    except FOREIGN_FAULT as error:
        raise FilterError(f"filter {shown(name)} cannot be registered: {described(error)}") from error
    hooks: dict[str, Hook] = {}
    for caller in manager.get_hookcallers(instance) or ():
        implementations = caller.get_hookimpls()
        if not caller.has_spec():
            if not all(implementation.optionalhook for implementation in implementations):
                hint = did_you_mean(caller.name, _HOOKS)
                what = f"filter {shown(name)} has an unknown hook {shown(caller.name)}{hint}"
                raise FilterError(what, f"one of: {', '.join(_HOOKS)}")
            continue
        if len(implementations) > 1:
            raise FilterError(f"filter {shown(name)} implements {caller.name} twice")
        hooks[caller.name] = _hook(implementations[0], caller.name, f"{caller.name} of filter {shown(name)}")
    unmarked = [
        hook
        for hook in _HOOKS
        if hook not in hooks
        and callable(getattr(type(instance), hook, None))
        and getattr(instance, hook) is not None
    ]
    if unmarked:
        raise FilterError(f"{unmarked[0]} of filter {shown(name)} is not marked", "@hookimpl before it")
    if not hooks:
        raise FilterError(f"filter {shown(name)} has no hook", f"@hookimpl on one of: {', '.join(_HOOKS)}")
    return hooks


def _wrong_argument(instance: object, name: str) -> FilterError | None:
    """The first argument of a hook that the hook does not have, in our words instead of pluggy's."""
    for hook in _HOOKS:
        function = getattr(instance, hook, None)
        if callable(function):
            try:
                _arguments(function, hook, f"{hook} of filter {shown(name)}")
            except FilterError as error:
                return error
    return None


def _arguments(function: Callable[..., Any], hook: str, name: str) -> tuple[str, ...]:
    """Those arguments of a hook that a function asks for; it may have others, of its own, with defaults."""
    known = [*inspect.signature(getattr(hookspecs, hook)).parameters]
    asked = []
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return ()
    for argument in arguments:
        if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
            what = f"{name} has the argument {shown(str(argument))} without a name"
            raise FilterError(what, f"the names of arguments: {', '.join(known)}")
        if argument.name in known:
            asked.append(argument.name)
        elif argument.default is argument.empty or did_you_mean(argument.name, known):
            hint = did_you_mean(argument.name, known)
            raise FilterError(
                f"{name} has the argument {shown(argument.name)}{hint}", f"none but: {', '.join(known)}"
            )
    return tuple(asked)


def _hook(implementation: pluggy.HookImpl, hook: str, name: str) -> Hook:
    function: Callable[..., Any] = implementation.function
    if implementation.wrapper or implementation.hookwrapper:
        raise FilterError(f"{name} is a wrapper", "a hook that returns a Verdict or None")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise FilterError(f"{name} yields", "a hook that returns a Verdict or None")
    return Hook(
        function=function,
        arguments=_arguments(function, hook, name),
        is_async=inspect.iscoroutinefunction(function),
    )
