"""What is logged about filters that fail, are late or block, and when they answer again."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gatepost.logline import LogLine
from gatepost.throttle import Throttle, and_more

__all__ = ["REPORT", "Asked", "Failures"]

log = logging.getLogger(__name__)

REPORT = "report"
"""In place of a stage, for `report_transaction` and `report_session`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """On which occasion a rule was asked."""

    rule: str
    stage: str
    """The stage, or `REPORT`."""
    session_id: str
    transaction_id: str = ""
    """Empty before MAIL."""

    def __str__(self) -> str:
        """For example ``at rcpt, transaction 0123456789abcdef``."""
        return f"at {self.stage}, {self.subject}"

    @property
    def subject(self) -> str:
        """The transaction, or the session if none has begun; either can be looked up in the journal."""
        return f"transaction {self.transaction_id}" if self.transaction_id else f"session {self.session_id}"


@dataclass(slots=True)
class _Outage:
    """A rule that was reported as failing and has not answered since."""

    since: float
    failures: int = 0


class Failures:
    """Logs the failures of the rules: the first at once, then one a minute, then the recovery.

    An outage is that of a service: a rule cannot reach its server, or times out. It is one trouble, although
    a server that goes down resets a connection, refuses the next and lets a third wait. Its end is logged.
    Mistakes in a filter, which may concern one message in many, are told apart by where they were raised;
    they have no end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._throttle = Throttle(clock=clock)
        self.outages: dict[str, _Outage] = {}
        """By rule. Look whether it is empty before calling `answered`, which is for each answer."""

    def failed(self, asked: Asked, reason: str, cause: BaseException | None) -> None:
        """A filter raised, or returned something wrong.

        ``cause`` is what it raised. Of an OSError, which says that some service cannot be used, the text is
        all that helps; anything else is a mistake in the filter, and its author needs the traceback.
        """
        text = f"rule {asked.rule} failed {asked}: {reason!r}"
        if isinstance(cause, OSError):
            self._out_of_service(asked, text)
        elif (left_out := self._throttle.admit((asked.rule, type(cause), _origin(cause)))) is not None:
            log.warning(_line(asked, text + and_more(left_out)), exc_info=cause)

    def not_asked(self, rule: str) -> None:
        """A rule was not asked, because of the failures before."""
        if outage := self.outages.get(rule):
            outage.failures += 1

    def timed_out(self, asked: Asked, reason: str) -> None:
        """A filter did not answer in time."""
        self._out_of_service(asked, f"rule {asked.rule} timed out {asked}: {reason!r}")

    def blocked(self, asked: Asked, seconds: float) -> None:
        """An ``async def`` did not let anything else run for so long."""
        text = (
            f"rule {asked.rule} blocked all connections for {seconds * 1000:,.0f} ms {asked}: "
            "an async def must not block, use a plain def"
        )
        if (left_out := self._throttle.admit((asked.rule, "blocked"))) is not None:
            log.warning(_line(asked, text + and_more(left_out), blocked_seconds=round(seconds, 3)))

    def skipped(self, asked: Asked) -> None:
        """A report was not made, because too many are running."""
        text = f"rule {asked.rule} is too slow, report of {asked.subject} skipped"
        if (left_out := self._throttle.admit((asked.rule, "skipped"))) is not None:
            log.warning(_line(asked, text + and_more(left_out)))

    def answered(self, rule: str) -> None:
        """A rule has answered; says so if it was reported as failing."""
        if outage := self.outages.pop(rule, None):
            count, took = outage.failures, self._clock() - outage.since
            text = f"rule {rule} answers again after {count} failure{'s' * (count > 1)} in {took:.0f} s"
            log.warning(LogLine(text, rule=rule))

    def _out_of_service(self, asked: Asked, text: str) -> None:
        is_report = asked.stage == REPORT
        if (left_out := self._throttle.admit((asked.rule, "out of service", is_report))) is not None:
            log.warning(_line(asked, text + and_more(left_out)))
            if not is_report:
                self.outages.setdefault(asked.rule, _Outage(self._clock()))
        if not is_report and (outage := self.outages.get(asked.rule)):
            outage.failures += 1


def _line(asked: Asked, text: str, **fields: object) -> LogLine:
    return LogLine(
        text,
        rule=asked.rule,
        stage=asked.stage,
        session=asked.session_id,
        transaction=asked.transaction_id or None,
        **fields,
    )


def _origin(error: BaseException | None) -> tuple[str, int] | None:
    """File and line where an exception was raised."""
    traceback = error.__traceback__ if error else None
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno) if traceback else None
