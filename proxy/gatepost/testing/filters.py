"""Asking one filter, without a server around it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gatepost.loader import hooks_of, make_filter
from gatepost.mail import Stage, Transaction
from gatepost.rule import Hook
from gatepost.verdict import Verdict

__all__ = ["ask_filter", "run_filter"]


def run_filter(filter_or_class: Any, transaction: Transaction, /, **settings: Any) -> Verdict | None:
    """What a filter says of a transaction: its first verdict, None if it has no opinion.

    A class is made with ``settings``, which are checked as those after ``with`` in rules.yaml; an
    instance is asked as it is. Every hook that the filter has is asked in the order of the stages
    (connect, helo, mail, rcpt for each recipient, message) with what is known by then.

    Raises ValueError for settings or hooks that rules.yaml would refuse too, TypeError for an answer
    that is no verdict, and whatever the filter raises: in the gateway that is the rule's ``on_error``.
    There is no time limit. Inside a running event loop use `ask_filter`.
    """
    return asyncio.run(ask_filter(filter_or_class, transaction, **settings))


async def ask_filter(filter_or_class: Any, transaction: Transaction, /, **settings: Any) -> Verdict | None:
    """`run_filter` for asynchronous tests."""
    if not isinstance(filter_or_class, type):
        if settings:
            raise TypeError("settings are for a filter class; an instance has its own")
        return await _first_verdict(filter_or_class, transaction)
    instance = make_filter(filter_or_class, settings)
    try:
        return await _first_verdict(instance, transaction)
    finally:
        if close := getattr(instance, "close", None):
            close()


async def _first_verdict(instance: object, transaction: Transaction) -> Verdict | None:
    hooks = hooks_of(instance)
    for stage, known in _conversation(transaction):
        if hook := hooks.get(stage):
            verdict = await _ask(hook, known)
            if verdict is not None:
                return verdict
    return None


def _conversation(transaction: Transaction) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """Each stage of the transaction with the hook arguments as they stand then."""
    session, envelope = transaction.session, transaction.envelope
    greeted = replace(session, authenticated=None)
    yield Stage.CONNECT, {"session": replace(greeted, helo="", extended=False)}
    yield Stage.HELO, {"session": greeted}
    yield Stage.MAIL, {"session": session, "envelope": replace(envelope, recipients=())}
    for number, recipient in enumerate(envelope.recipients):
        accepted = replace(envelope, recipients=envelope.recipients[:number])
        yield Stage.RCPT, {"session": session, "envelope": accepted, "recipient": recipient}
    yield Stage.MESSAGE, {"transaction": transaction}


async def _ask(hook: Hook, known: dict[str, Any]) -> Verdict | None:
    arguments = {name: known[name] for name in hook.arguments}
    answer = (
        await hook.function(**arguments)
        if hook.is_async
        else await asyncio.to_thread(hook.function, **arguments)
    )
    if answer is not None and not isinstance(answer, Verdict):
        raise TypeError(f"a filter answers with a Verdict or None, this one with {type(answer).__name__}")
    return answer
