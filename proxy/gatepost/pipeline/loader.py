"""Make a `Rule` from each entry of ``rules``: find the filter class, make an instance, collect its hooks."""

import inspect
from collections.abc import Callable, Iterable, Iterator

from pydantic import ValidationError

from gatepost.config import ConfigError, LoadedConfig, Problem
from gatepost.config.problems import shown
from gatepost.config.rules import HOLD_SECONDS, RuleSettings
from gatepost.config.validation import problems_of
from gatepost.model.mail import Stage
from gatepost.pipeline.closing import close_now
from gatepost.pipeline.faults import FOREIGN_FAULT, FilterError, described, is_meant_for_operator, text_of
from gatepost.pipeline.filter_settings import make_filter, settings_model
from gatepost.pipeline.finder import Finder
from gatepost.pipeline.hooks import FilterHooks, hooks_of, named_hooks
from gatepost.pipeline.isolated import IsolatedFilter
from gatepost.pipeline.isolated_process import ProcessEndedError
from gatepost.pipeline.provided import Provided
from gatepost.pipeline.rule import Hook, Rule
from gatepost.values import value

__all__ = ["collected", "load_rules", "try_rules"]


def load_rules(loaded: LoadedConfig, provided: Provided | None = None) -> tuple[Rule, ...]:
    """Make all rules in file order; raises ConfigError with the problems of all of them."""
    return collected(try_rules(loaded, provided))


def collected(tried: Iterable[Rule | ConfigError]) -> tuple[Rule, ...]:
    """All rules; raises ConfigError with the problems of all, and then closes those that were made."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    try:
        for made in tried:
            if isinstance(made, Rule):
                rules.append(made)
            else:
                problems.extend(made.problems)
    except BaseException:
        close_now(rules)
        raise
    if problems:
        close_now(rules)
        raise ConfigError(problems)
    return tuple(rules)


def try_rules(
    loaded: LoadedConfig,
    provided: Provided | None = None,
    which: Callable[[RuleSettings], bool] = lambda _: True,
) -> Iterator[Rule | ConfigError]:
    """Make one rule after the other, in file order; of one that cannot be made the error.

    ``which`` tells which rules are made.
    """
    finder = Finder(loaded.base)
    provided = provided or Provided.of(loaded)
    for number, settings in enumerate(loaded.config.rules):
        if not which(settings):
            continue
        try:
            yield _rule(loaded, number, settings, finder, provided)
        except FilterError as error:
            yield ConfigError([loaded.problem(("rules", number, "filter"), error.what, error.expected)])
        except ConfigError as error:
            yield error


def _rule(
    loaded: LoadedConfig, number: int, settings: RuleSettings, finder: Finder, provided: Provided
) -> Rule:
    made = _isolated(loaded, number, settings, finder, provided) or _here(
        loaded, number, settings, finder, provided
    )
    hooks = made.hooks
    rule = Rule(
        name=settings.name,
        hooks=hooks.stages,
        finish=hooks.finish,
        learn=hooks.learn if settings.learn else None,
        report=hooks.report,
        report_session=hooks.report_session,
        when=settings.when,
        action=settings.action,
        score=settings.score,
        reply=settings.reply,
        edits=settings.tag.edits if settings.tag else (),
        observe=settings.mode == "observe",
        on_error=settings.on_error,
        timeout_seconds=settings.timeout,
        hold_at=settings.hold.stage if settings.hold else None,
        hold_seconds=settings.hold.deadline if settings.hold else HOLD_SECONDS,
        side_by_side=made.side_by_side,
        open=made.open,
        close=made.close,
    )
    if wrong := _contradiction(settings, hooks):
        close_now([rule])
        key, what, expected = wrong
        raise ConfigError([loaded.problem(("rules", number, key), what, expected)])
    if late := _asked_after(rule):
        close_now([rule])
        what = f"the rule is asked at {late.name.lower()}, later than it shall hold"
        raise ConfigError([loaded.problem(("rules", number, "hold", "stage"), what, late.name.lower())])
    return rule


@value
class _Made:
    """A filter that can be asked, here or in processes of its own."""

    hooks: FilterHooks
    side_by_side: bool
    open: Hook | None
    close: Hook | None


def _here(
    loaded: LoadedConfig, number: int, settings: RuleSettings, finder: Finder, provided: Provided
) -> _Made:
    instance = _instance(loaded, number, settings, finder.filter_class(settings.filter), provided)
    return _Made(
        hooks=hooks_of(instance, settings.filter),
        side_by_side=getattr(instance, "side_by_side", False) is True,
        open=_plain_hook(instance, "open"),
        close=_plain_hook(instance, "close"),
    )


def _isolated(
    loaded: LoadedConfig, number: int, settings: RuleSettings, finder: Finder, provided: Provided
) -> _Made | None:
    """The filter in processes of its own, if the rule or else the filter's class says so."""
    isolation = settings.isolation or getattr(finder.filter_class(settings.filter), "isolation", None)
    if isolation != "process":
        return None
    recipe = {
        "rule": settings.name,
        "filter": settings.filter,
        "with": settings.with_,
        "base": loaded.base,
        "memory": settings.memory,
        "place": {"message_size": provided.message_size, "timeout_seconds": settings.timeout},
        "dns_servers": provided.dns.servers,
        "dns_timeout": provided.dns.timeout,
    }
    pool = IsolatedFilter(recipe, provided.counter, provided.data_made)
    try:
        said = pool.probe()
    except ProcessEndedError as error:
        raise FilterError(f"filter {shown(settings.filter)} in a process of its own: {error}") from error
    if "mistakes" in said:
        raise ConfigError(
            loaded.document.problem(("rules", number, "with", *location), what, expected, key=is_key)
            for location, is_key, what, expected in said["mistakes"]
        )
    if "ready" not in said:
        what, expected = said["unusable"]
        raise FilterError(what, "a larger memory of the rule" if "MemoryError" in what else expected)
    hooks = {name: pool.hook(name, tuple(arguments)) for name, arguments in said["ready"]["hooks"].items()}
    return _Made(
        hooks=named_hooks(hooks),
        side_by_side=said["ready"]["side_by_side"] is True,
        open=_plain_hook(pool, "open"),
        close=_plain_hook(pool, "close"),
    )


def _contradiction(settings: RuleSettings, hooks: FilterHooks) -> tuple[str, str, str] | None:
    """A key of a rule that its filter has no use for: the key, what is wrong and what was expected."""
    if settings.learn and hooks.learn is None:
        what = f"filter {shown(settings.filter)} does not learn, or its settings lack what it needs for that"
        return "learn", what, "a rule without learn"
    if hooks.finish is None:
        return None
    if settings.when and settings.when.per_recipient:
        what = f"filter {shown(settings.filter)} finishes a message, which may be one for several recipients"
        return "when", what, "no condition on recipients, scores or hits"
    for key in ("action", "score", "reply") if not hooks.stages else ():
        if getattr(settings, key) is not None:
            what = f"filter {shown(settings.filter)} only finishes messages, and never hits"
            return key, what, f"a rule without {key}"
    return None


def _asked_after(rule: Rule) -> Stage | None:
    """The stage at which a rule is asked after the stage at which it shall hold; None: there is none."""
    late = [stage for own in rule.hooks if (stage := rule.asked_at(own)) > (rule.hold_at or stage)]
    return max(late, default=None)


def _plain_hook(instance: object, name: str) -> Hook | None:
    """A method without arguments, to be called as hooks are: on the event loop, or in a thread."""
    function = getattr(instance, name, None)
    if not callable(function):
        return None
    return Hook(function=function, arguments=(), is_async=inspect.iscoroutinefunction(function))


def _instance(
    loaded: LoadedConfig, number: int, settings: RuleSettings, filter_class: type[object], provided: Provided
) -> object:
    place = ("rules", number, "with")
    try:
        own = provided.for_rule(settings)
        return make_filter(filter_class, settings.with_, settings.filter, base=loaded.base, provided=own)
    except FilterError:
        raise
    except ValidationError as error:
        model, _ = settings_model(filter_class)  # type: ignore[arg-type]  # a class is hashable
        raise ConfigError(problems_of(error, loaded.document, model, place)) from error
    except FOREIGN_FAULT as error:
        if isinstance(error, ValueError) and is_meant_for_operator(error):
            what = f"filter {shown(settings.filter)}: {text_of(error)}"
        else:
            what = f"filter {shown(settings.filter)} could not be made: {described(error, loaded.base)}"
        raise ConfigError([loaded.problem(place, what)]) from error
