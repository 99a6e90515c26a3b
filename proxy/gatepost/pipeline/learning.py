"""What people say about stored messages is passed on to the filters that learn."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Literal

from gatepost.config import LoadedConfig
from gatepost.model.checks import one_line
from gatepost.model.learnt import Learnt
from gatepost.model.mail import Recipient
from gatepost.pipeline.ask import FilterFailedError, FilterTimeoutError, Threads, ask
from gatepost.pipeline.closing import close_filters
from gatepost.pipeline.loader import collected, try_rules
from gatepost.pipeline.provided import Provided
from gatepost.pipeline.rule import Hook, Rule

__all__ = ["learn"]

_TEXT_LIMIT = 500


def learn(
    loaded: LoadedConfig, content: bytes, recipients: Iterable[str], kind: Literal["spam", "ham"]
) -> tuple[Learnt, ...]:
    """Have each rule with ``learn: true`` learn a message as it was received; empty if there is none.

    Blocks, for the longest ``timeout`` of them at most. Raises ConfigError if one of them cannot be made.
    """
    provided = Provided.of(loaded, keeps_state=False)
    rules = collected(try_rules(loaded, provided, lambda settings: settings.learn))
    offered = {
        "content": content,
        "kind": kind,
        "recipients": tuple(Recipient(address=address) for address in recipients),
    }
    return asyncio.run(_all_learn(rules, provided, offered))


async def _all_learn(
    rules: tuple[Rule, ...], provided: Provided, offered: Mapping[str, object]
) -> tuple[Learnt, ...]:
    threads = Threads()
    try:
        return tuple(
            await asyncio.gather(
                *(_learns(rule, rule.learn, offered, threads) for rule in rules if rule.learn)
            )
        )
    finally:
        await close_filters(rules, threads)
        await provided.close()
        threads.close()


async def _learns(rule: Rule, hook: Hook, offered: Mapping[str, object], threads: Threads) -> Learnt:
    said: list[str] = []

    def check(answer: object) -> None:
        if not isinstance(answer, str):
            raise TypeError(f"returned {type(answer).__name__}, expected str or None")
        said.append(one_line("the answer", answer, _TEXT_LIMIT))

    try:
        if rule.open:
            await ask(rule.open, {}, rule.timeout_seconds, threads, _ignored, check=_ignored)
        await ask(hook, offered, rule.timeout_seconds, threads, _ignored, check=check)
    except FilterTimeoutError as error:
        text = f"no answer within {rule.timeout_seconds:g} s: {error}".rstrip(": ")
        return Learnt(rule=rule.name, succeeded=False, text=text)
    except FilterFailedError as error:
        return Learnt(rule=rule.name, succeeded=False, text=str(error))
    return Learnt(rule=rule.name, succeeded=True, text="".join(said))


def _ignored(_: object) -> None:
    """What is of no interest here."""
