"""The overview: dispositions over time, senders and clients, results and times of the rules."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from gatepost.model.record import Disposition
from gatepost.model.user import Need
from gatepost.store import Counted, Newest, RuleTally, Span, Statistics, Timeline, Top
from gatepost.values import value
from gatepost.web.access import Guarded
from gatepost.web.charts import Bar, Column, Series, horizontal_bars, stacked_columns
from gatepost.web.probes import counts_connections_alone, rules_out_of_service
from gatepost.web.rendering import desk_of, milliseconds, render

if TYPE_CHECKING:
    from gatepost.metrics import SharedCounters

__all__ = ["Overview", "make_overview", "routes"]

_SERIES = {
    Disposition.RELAYED: "relayed",
    Disposition.INBOX: "in the inbox",
    Disposition.DISCARDED: "discarded",
    Disposition.QUARANTINED: "quarantined",
    Disposition.REFUSED: "refused",
    Disposition.DEFERRED: "deferred",
    Disposition.IN_DOUBT: "in doubt",
    Disposition.ABANDONED: "abandoned",
}
_TILES = (
    Disposition.RELAYED,
    Disposition.INBOX,
    Disposition.QUARANTINED,
    Disposition.DISCARDED,
    Disposition.REFUSED,
    Disposition.DEFERRED,
)
_SLOWEST = 8
"""Number of rules in the chart of the slowest."""


@value
class Tile:
    """One number above the charts."""

    disposition: Disposition
    label: str
    count: int
    link: str


@value
class Overview:
    """What the page shows."""

    span: Span
    tiles: tuple[Tile, ...]
    total: int
    complete: bool
    """False: older columns are not counted yet."""
    over_time: Markup
    clients: Markup | None
    senders: Markup | None
    slowest: Markup | None
    rules: tuple[RuleTally, ...]
    newest: Newest


def make_overview(statistics: Statistics, span: Span, now: datetime) -> Overview:
    """Count and draw; blocks. Raises StoreError."""
    timeline = statistics.timeline(span, now)
    since = timeline.buckets[0].start
    newest = statistics.newest(since)
    return Overview(
        span=span,
        tiles=_tiles(timeline.totals, since),
        total=sum(timeline.totals.values()),
        complete=timeline.complete,
        over_time=_over_time(timeline, span),
        clients=_ranking("Clients", "client", statistics.top(Top.CLIENTS, since)),
        senders=_ranking("Senders", "from", newest.senders),
        slowest=_slowest(newest.rules),
        rules=newest.rules,
        newest=newest,
    )


def _journal(**terms: str) -> str:
    """The address of a search in the journal; ``*`` replaces quotes, which a search cannot contain."""
    named = ((name, value.replace('"', "*")) for name, value in terms.items())
    query = " ".join(f'{name}:"{value}"' if " " in value else f"{name}:{value}" for name, value in named)
    return f"/journal?{urlencode({'q': query})}"


def _tiles(totals: Mapping[Disposition, int], since: datetime) -> tuple[Tile, ...]:
    after = since.strftime("%Y-%m-%dT%H:%M")
    return tuple(
        Tile(
            disposition=disposition,
            label=_SERIES[disposition],
            count=totals[disposition],
            link=_journal(**{"is": disposition, "after": after}),
        )
        for disposition in _TILES
        if totals.get(disposition)
    )


def _over_time(timeline: Timeline, span: Span) -> Markup:
    shown = [disposition for disposition in _SERIES if timeline.totals.get(disposition)]
    return stacked_columns(
        "over-time",
        title=f"Mail in the last {span}, by disposition and recipient",
        series=[Series(name=disposition, label=_SERIES[disposition]) for disposition in shown],
        columns=[
            Column(
                label=_label(bucket.start, span),
                tick=_tick(bucket.start, span),
                values=None
                if bucket.recipients is None
                else tuple(bucket.recipients.get(disposition, 0) for disposition in shown),
            )
            for bucket in timeline.buckets
        ],
    )


def _label(start: datetime, span: Span) -> str:
    if span is Span.MONTH:
        return f"{start:%a} {start.day} {start:%b}"
    return f"{start:%a %H:%M}" if span is Span.WEEK else f"{start:%H:%M}"


def _tick(start: datetime, span: Span) -> str | None:
    match span:
        case Span.HOUR:
            return f"{start:%H:%M}" if start.minute % 10 == 5 else None
        case Span.DAY:
            return f"{start:%H:%M}" if start.hour % 4 == 2 and start.minute == 0 else None
        case Span.WEEK:
            return f"{start:%a} {start.day}" if start.hour == 12 else None
        case Span.MONTH:
            return f"{start.day} {start:%b}" if start.day in (3, 8, 13, 18, 23, 28) else None


def _ranking(title: str, term: str, counted: Sequence[Counted]) -> Markup | None:
    if not counted:
        return None
    bars = [
        Bar(
            label=one.name or "<>",
            value=one.transactions,
            shown=f"{one.transactions:,}",
            link=_journal(**{term: one.name or "<>"}),
        )
        for one in counted
    ]
    return horizontal_bars(title=title, value_title="Transactions", bars=bars)


def _slowest(rules: Sequence[RuleTally]) -> Markup | None:
    slowest = sorted(rules, key=lambda rule: rule.slowest_seconds, reverse=True)[:_SLOWEST]
    if not slowest or not slowest[0].slowest_seconds:
        return None
    bars = [
        Bar(
            label=rule.rule,
            value=rule.slowest_seconds,
            shown=milliseconds(rule.slowest_seconds),
            detail=f"median {milliseconds(rule.median_seconds)}",
        )
        for rule in slowest
    ]
    return horizontal_bars(title="Slowest rules", value_title="Slowest", bars=bars)


async def overview_page(request: Request) -> Response:
    """``/overview``: the last ``span``, by default a day."""
    desk = desk_of(request)
    wanted = request.query_params.get("span", "")
    span = Span(wanted) if wanted in tuple(Span) else Span.DAY
    now = datetime.now().astimezone()
    overview = await desk.call(make_overview, desk.statistics, span, now)
    records = overview.newest.records
    counters: SharedCounters | None = request.app.state.counters
    return render(
        request,
        "overview.html",
        counts_alone=counters is not None and counts_connections_alone(counters),
        out_of_service=[rule for rule, _ in rules_out_of_service(counters)] if counters else [],
        spans=tuple(Span),
        overview=overview,
        zone=now.tzname(),
        sample="" if overview.newest.complete else f", of the newest {records:,} transactions",
    )


routes = [Guarded("/overview", overview_page, needs=Need.READ_ALL)]
