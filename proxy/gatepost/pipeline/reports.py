"""Reports to filters: of transactions and sessions that have ended. Nothing waits for them."""

import asyncio
import logging
from collections.abc import Sequence

from gatepost.model.record import Record, SessionRecord
from gatepost.pipeline.ask import FilterFailedError, FilterTimeoutError, Threads, ask, unexpected
from gatepost.pipeline.failures import REPORT, Asked, Failures
from gatepost.pipeline.rule import Hook, Rule

__all__ = ["Reports"]

log = logging.getLogger(__name__)

_LIMIT = 100
"""Concurrent reports of one kind; above this number a report is skipped and logged. Each kind has its own
limit: clients that connect and leave in great numbers must not keep filters from learning of mail."""


class Reports:
    """Calls the `report_transaction` and `report_session` hooks of all rules."""

    def __init__(self, rules: Sequence[Rule], failures: Failures, threads: Threads) -> None:
        self._of_transactions = tuple((rule, rule.report) for rule in rules if rule.report)
        self._of_sessions = tuple((rule, rule.report_session) for rule in rules if rule.report_session)
        self._failures = failures
        self._threads = threads
        self._running: dict[type[Record | SessionRecord], set[asyncio.Task[None]]] = {
            Record: set(),
            SessionRecord: set(),
        }

    @property
    def wants_sessions(self) -> bool:
        """True if a rule wants to know how sessions end."""
        return bool(self._of_sessions)

    def transaction(self, record: Record) -> None:
        """Pass on the record of a transaction."""
        for rule, hook in self._of_transactions:
            self._begin(rule, hook, record, Asked(rule.name, REPORT, record.session_id, record.id))

    def session(self, record: SessionRecord) -> None:
        """Pass on the record of a session."""
        for rule, hook in self._of_sessions:
            self._begin(rule, hook, record, Asked(rule.name, REPORT, record.id))

    def _begin(self, rule: Rule, hook: Hook, record: Record | SessionRecord, asked: Asked) -> None:
        running = self._running[type(record)]
        if len(running) >= _LIMIT:
            self._failures.skipped(asked)
            return
        task = asyncio.get_running_loop().create_task(self._report(rule, hook, record, asked), name=rule.name)
        running.add(task)
        task.add_done_callback(running.discard)

    async def finish(self, seconds: float) -> None:
        """Wait for the reports that are being made; those that take longer are cut off."""
        running = tuple(task for tasks in self._running.values() for task in tasks)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            rules = ", ".join(sorted({task.get_name() for task in late}))
            log.warning("reports cut off after %g s: %d, of the rules %s", seconds, len(late), rules)
            await asyncio.wait(late)

    async def _report(self, rule: Rule, hook: Hook, record: Record | SessionRecord, asked: Asked) -> None:
        failures = self._failures
        try:
            await ask(
                hook,
                {"record": record},
                rule.timeout_seconds,
                self._threads,
                lambda took: failures.blocked(asked, took),
                unexpected,
            )
        except FilterTimeoutError as error:
            reason = f"no answer within {rule.timeout_seconds:.3g} s{': ' if str(error) else ''}{error}"
            failures.timed_out(asked, reason)
        except FilterFailedError as error:
            failures.failed(asked, str(error), error.__cause__)
