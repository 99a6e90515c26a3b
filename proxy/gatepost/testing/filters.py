"""Asking one filter, without a server around it."""

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from gatepost.config.document import Location
from gatepost.config.validation import mistakes_in
from gatepost.dns import Resolver
from gatepost.model.mail import Recipient, Stage, Transaction
from gatepost.model.verdict import Passed, PerRecipient, Verdict
from gatepost.pipeline import Pipeline, Threads, rehearse
from gatepost.pipeline.ask import FilterAnswer, checked
from gatepost.pipeline.filter_settings import make_filter, settings_model
from gatepost.pipeline.finish import checked_fields
from gatepost.pipeline.hooks import hooks_of
from gatepost.pipeline.provided import KINDS
from gatepost.pipeline.rule import Hook, Rule
from gatepost.place import Place
from gatepost.state import State
from gatepost.testing.memory import make_state
from gatepost.values import value

__all__ = ["Hit", "ask_all", "ask_filter", "run_all", "run_filter", "run_finish"]

_SOMEBODY = (Recipient(address="recipient@example.com"),)
"""The recipients of a transaction that has none; a session cannot send a message without one."""


@value
class Hit:
    """One verdict of a filter, and when it came."""

    stage: Stage
    """The stage of the hook that returned it."""
    recipient: str | None
    """The address that `filter_rcpt` was asked about, or that `PerRecipient` names; None: all recipients."""
    verdict: Verdict
    """What it returned."""


def run_filter(filter_or_class: Any, transaction: Transaction, /, **settings: Any) -> Verdict | None:
    """What a filter says of a transaction: its first verdict, None if it has no opinion.

    A class is made with ``settings``, which are checked as those after ``with`` in rules.yaml; what the
    gateway provides may be among them (`make_resolver`, `make_state`). An instance is asked as it is. Every
    hook that the filter has is asked in the order of the stages (connect, helo, mail, rcpt for each
    recipient, message) with what is known by then.

    Raises ValueError for settings or hooks that rules.yaml would refuse too, TypeError for an answer
    that is no verdict, and whatever the filter raises: in the gateway that is the rule's ``on_error``.
    There is no time limit. Inside a running event loop use `ask_filter`.
    """
    return asyncio.run(ask_filter(filter_or_class, transaction, **settings))


async def ask_filter(filter_or_class: Any, transaction: Transaction, /, **settings: Any) -> Verdict | None:
    """`run_filter` for asynchronous tests."""
    async with _made(filter_or_class, settings) as instance:
        hits = await _hits(instance, transaction, only_first=True)
    return hits[0].verdict if hits else None


def run_all(filter_or_class: Any, transaction: Transaction, /, **settings: Any) -> tuple[Hit, ...]:
    """All verdicts of a filter about a transaction, each with its stage and its recipient.

    As `run_filter`, but the filter is asked at every stage and about every recipient, whatever it has
    returned before: as in a rule with ``mode: observe``.
    """
    return asyncio.run(ask_all(filter_or_class, transaction, **settings))


async def ask_all(filter_or_class: Any, transaction: Transaction, /, **settings: Any) -> tuple[Hit, ...]:
    """`run_all` for asynchronous tests."""
    async with _made(filter_or_class, settings) as instance:
        return tuple(await _hits(instance, transaction, only_first=False))


def run_finish(filter_or_class: Any, transaction: Transaction, /, **settings: Any) -> bytes:
    """The fields that the `finish_message` of a filter puts before the message, which has no edits.

    The class is made as in `run_filter`. Raises TypeError or ValueError for an answer that is not header
    fields, and whatever the filter raises.
    """

    async def finish() -> bytes:
        async with _made(filter_or_class, settings) as instance:
            hook = hooks_of(instance).finish
            if hook is None:
                raise ValueError(f"{type(instance).__name__} has no finish_message")
            offered = {"transaction": transaction, "content": transaction.message.content}
            answer = await _returned(hook, {name: offered[name] for name in hook.arguments})
            return b"" if answer is None else checked_fields(answer)

    return asyncio.run(finish())


@asynccontextmanager
async def _made(filter_or_class: Any, settings: Mapping[str, Any]) -> AsyncIterator[object]:
    """The instance; one that is made here is closed at the end."""
    if not isinstance(filter_or_class, type):
        if settings:
            raise TypeError("settings are for a filter class; an instance has its own")
        yield filter_or_class
        return
    instance = _instance(filter_or_class, settings)
    try:
        await _call(instance, "open")
        yield instance
    finally:
        await _call(instance, "close")


async def _call(instance: object, name: str) -> None:
    if method := getattr(instance, name, None):
        waiting = method()
        if inspect.isawaitable(waiting):
            await waiting


def _instance(filter_class: type[Any], settings: Mapping[str, Any]) -> object:
    name = filter_class.__name__
    provided = {type(given): given for given in settings.values() if isinstance(given, KINDS)}
    settings = {key: given for key, given in settings.items() if not isinstance(given, KINDS)}
    try:
        return make_filter(filter_class, settings, provided=_defaults(filter_class) | provided)
    except ValidationError as error:
        model, _ = settings_model(filter_class)  # type: ignore[arg-type]  # a class is hashable
        lines: dict[str, list[str]] = {}
        for mistake in mistakes_in(error, model, ("with",)):
            place = _place(mistake.location[1:-1] if mistake.is_key else mistake.location[1:])
            expected = lines.setdefault(f"{name}: {place}{mistake.what}", [])
            expected += [mistake.expected] if mistake.expected else []
        text = "\n".join(
            f"{line}, expected {' or '.join(expected)}" if expected else line
            for line, expected in lines.items()
        )
        raise ValueError(text) from None
    except PydanticSerializationError as error:
        raise ValueError(f"{name}: a setting that rules.yaml cannot hold: {error}") from None


def _defaults(filter_class: type[Any]) -> dict[type[Any], object]:
    """What a filter gets by annotation if the test does not say."""
    place = Place(rule=filter_class.__name__, folder=Path())
    return {Resolver: Resolver(), State: make_state(), Place: place}


def _place(location: Location) -> str:
    """``servers[1].port: ``; empty for the settings as a whole."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{''.join(parts).removeprefix('.')}: " if location else ""


async def _hits(instance: object, transaction: Transaction, *, only_first: bool) -> list[Hit]:
    """Rehearse the transaction with the filter as the only rule."""
    answers = _Answers()
    hooks = hooks_of(instance).stages
    watched = {stage: _watched(hook, stage, answers) for stage, hook in hooks.items()}
    rule = Rule(name=type(instance).__name__, hooks=watched, timeout_seconds=math.inf, observe=not only_first)
    pipeline = Pipeline([rule], filter_seconds=math.inf, threads=Threads())
    if not transaction.envelope.recipients:
        transaction = replace(transaction, envelope=replace(transaction.envelope, recipients=_SOMEBODY))
    async with aclosing(rehearse(pipeline, transaction)) as steps:
        async for _ in steps:
            if answers.error:
                raise answers.error
            if answers.hits and only_first:
                break
    return answers.hits


@dataclass(slots=True)
class _Answers:
    """How the filter answered; a pipeline alone would keep its errors from the test."""

    hits: list[Hit] = field(default_factory=list)
    error: BaseException | None = None


def _watched(hook: Hook, stage: Stage, answers: _Answers) -> Hook:
    """The same hook, which notes how it answered."""

    async def function(*, recipient: Recipient | None = None, **arguments: Any) -> FilterAnswer | None:
        if "recipient" in hook.arguments:
            arguments["recipient"] = recipient
        try:
            answer = await _called(hook, arguments)
        except BaseException as error:
            answers.error = error
            raise
        address = recipient.address if recipient and stage is Stage.RCPT else None
        if isinstance(answer, Passed):
            return answer
        found = answer.verdicts if isinstance(answer, PerRecipient) else {address: answer}
        answers.hits += [
            Hit(stage=stage, recipient=address, verdict=verdict)
            for address, verdict in found.items()
            if verdict is not None
        ]
        return answer

    return Hook(function=function, arguments=tuple({*hook.arguments, "recipient"}), is_async=True)


async def _called(hook: Hook, arguments: dict[str, Any]) -> FilterAnswer | None:
    answer = await _returned(hook, arguments)
    return None if answer is None else checked(answer)


async def _returned(hook: Hook, arguments: dict[str, Any]) -> object:
    if hook.is_async:
        return await hook.function(**arguments)
    return await asyncio.to_thread(hook.function, **arguments)
