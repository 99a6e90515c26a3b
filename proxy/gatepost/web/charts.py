"""Small SVG charts made on the server: no script, no inline style, readable by screen readers.

Colours come from the style sheet by class: ``chart-NAME`` for a series. Lengths along the time axis are
in percent, so that a chart fits its place without scaling its text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["Bar", "Column", "Series", "horizontal_bars", "stacked_columns"]

_HEIGHT = 190
_AXIS = 40
_TOP = 8
_BOTTOM = 24
"""Margins in pixels: left for the numbers, above the plot for half a line, below it for the ticks."""
_PLOT = _HEIGHT - _TOP - _BOTTOM
_FILLED = 0.8
"""The part of its space that a column fills."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of a stacked chart."""

    name: str
    """The suffix of its CSS class: letters, digits and ``-``."""
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column on the time axis."""

    label: str
    """Its name in the table and the tooltip."""
    tick: str | None = None
    """Its label on the axis; only some columns have one."""
    values: tuple[int, ...] | None
    """One for each series, not negative. None: not counted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One line of a ranking."""

    label: str
    value: float
    """Not negative."""
    shown: str
    """The formatted value."""
    link: str | None = None
    detail: str = ""


def stacked_columns(name: str, *, title: str, series: Sequence[Series], columns: Sequence[Column]) -> Markup:
    """Columns over time with a table of the same numbers; ``name`` is unique on the page."""
    top, step = _scale(max((sum(column.values or ()) for column in columns), default=0))
    description = _description(series, columns)
    parts = [
        Markup(
            '<figure class="chart"><div class="chart-area">{axis}'
            '<svg class="chart-plot" width="100%" height="{height}" role="img"'
            ' aria-labelledby="{name}-title {name}-description">'
            '<title id="{name}-title">{title}</title>'
            '<desc id="{name}-description">{description}</desc>'
        ).format(height=_HEIGHT, name=name, title=title, description=description, axis=_axis(top, step)),
        *_grid(top, step),
        *_columns(series, columns, top),
        Markup("</svg></div>"),
        _legend(series, columns),
        _table(title, series, columns),
        Markup("</figure>"),
    ]
    return Markup().join(parts)


def horizontal_bars(*, title: str, value_title: str, bars: Sequence[Bar]) -> Markup:
    """A table with a bar in each line."""
    longest = max((bar.value for bar in bars), default=0) or 1
    head = Markup(
        '<table class="bars"><caption class="visually-hidden">{}</caption>'
        '<colgroup><col class="bars-name"/><col/><col class="bars-number"/></colgroup>'
        '<thead class="visually-hidden">'
        '<tr><th scope="col">Name</th><th scope="col">Bar</th><th scope="col">{}</th></tr></thead><tbody>'
    ).format(title, value_title)
    return Markup().join([head, *(_bar(bar, longest) for bar in bars), Markup("</tbody></table>")])


def _scale(largest: int) -> tuple[int, int]:
    """The axis' end and the distance of its lines (1, 2 or 5 times a power of ten; two to five lines)."""
    step = 1
    while largest > 4 * step:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return max(1, -(-largest // step)) * step, step


def _y(value: int, top: int) -> float:
    return round(_TOP + _PLOT * (1 - value / top), 2)


def _axis(top: int, step: int) -> Markup:
    labels = (
        Markup('<text class="chart-label" x="{x}" y="{y}" text-anchor="end">{value}</text>').format(
            x=_AXIS, y=_y(value, top) + 4, value=f"{value:,}"
        )
        for value in range(0, top + 1, step)
    )
    return Markup('<svg class="chart-axis" width="{}" height="{}" aria-hidden="true">{}</svg>').format(
        _AXIS, _HEIGHT, Markup().join(labels)
    )


def _grid(top: int, step: int) -> Iterator[Markup]:
    for value in range(0, top + 1, step):
        yield Markup('<line class="chart-grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>').format(y=_y(value, top))


def _columns(series: Sequence[Series], columns: Sequence[Column], top: int) -> Iterator[Markup]:
    width = 100 / max(1, len(columns))
    for number, column in enumerate(columns):
        left = number * width
        yield Markup("<g><title>{}</title>").format(_tooltip(series, column))
        yield Markup(
            '<rect class="chart-hover" x="{x:.3f}%" y="{y}" width="{width:.3f}%" height="{h}"/>'
        ).format(x=left, y=_TOP, width=width, h=_PLOT)
        yield from _stack(series, column, top, left + width * (1 - _FILLED) / 2, width * _FILLED)
        yield Markup("</g>")
        if column.tick:
            yield Markup(
                '<text class="chart-label" x="{x:.3f}%" y="{y}" text-anchor="middle">{tick}</text>'
            ).format(x=left + width / 2, y=_HEIGHT - 7, tick=column.tick)


def _stack(series: Sequence[Series], column: Column, top: int, x: float, width: float) -> Iterator[Markup]:
    if column.values is None:
        yield Markup(
            '<rect class="chart-unknown" x="{x:.3f}%" y="{y}" width="{width:.3f}%" height="{h}"/>'
        ).format(x=x, y=_TOP, width=width, h=_PLOT)
        return
    below = 0
    for one, value in zip(series, column.values, strict=True):
        if value:
            y = _y(below + value, top)
            yield Markup(
                '<rect class="chart-{name}" x="{x:.3f}%" y="{y}" width="{width:.3f}%" height="{h}"/>'
            ).format(name=one.name, x=x, y=y, width=width, h=round(_y(below, top) - y, 2))
            below += value


def _parts(series: Sequence[Series], values: Sequence[int]) -> str:
    parts = [f"{value:,} {one.label}" for one, value in zip(series, values, strict=True) if value]
    return ", ".join(parts) or "none"


def _tooltip(series: Sequence[Series], column: Column) -> str:
    return f"{column.label}: {'not counted yet' if column.values is None else _parts(series, column.values)}"


def _totals(series: Sequence[Series], columns: Sequence[Column]) -> list[int]:
    known = [column.values for column in columns if column.values is not None]
    return [sum(values) for values in zip(*known, strict=True)] or [0] * len(series)


def _description(series: Sequence[Series], columns: Sequence[Column]) -> str:
    if not columns:
        return "No columns."
    total = _parts(series, _totals(series, columns))
    return f"{len(columns)} columns from {columns[0].label} to {columns[-1].label}. In all: {total}."


def _legend(series: Sequence[Series], columns: Sequence[Column]) -> Markup:
    items = [
        Markup(
            '<li><svg width="10" height="10" aria-hidden="true">'
            '<rect class="chart-{name}" width="10" height="10" rx="2"/></svg> {label} <b>{total}</b></li>'
        ).format(name=one.name, label=one.label, total=f"{total:,}")
        for one, total in zip(series, _totals(series, columns), strict=True)
        if total
    ]
    return Markup('<ul class="chart-legend">{}</ul>').format(Markup().join(items)) if items else Markup()


def _table(title: str, series: Sequence[Series], columns: Sequence[Column]) -> Markup:
    """The numbers as a table, without empty series and columns."""
    shown = [number for number, total in enumerate(_totals(series, columns)) if total]
    if not shown:
        return Markup()
    head = Markup().join(Markup('<th scope="col">{}</th>').format(series[number].label) for number in shown)
    lines = [
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            column.label, Markup().join(Markup("<td>{}</td>").format(f"{values[n]:,}") for n in shown)
        )
        for column in columns
        if (values := column.values) and any(values)
    ]
    return Markup(
        '<details class="chart-table"><summary>As a table</summary><table><caption>{}</caption>'
        '<thead><tr><th scope="col">Time</th>{}</tr></thead><tbody>{}</tbody></table></details>'
    ).format(title, head, Markup().join(lines))


def _bar(bar: Bar, longest: float) -> Markup:
    label = (
        Markup('<a href="{}">{}</a>').format(bar.link, bar.label) if bar.link else Markup.escape(bar.label)
    )
    detail = Markup(' <span class="bars-detail">{}</span>').format(bar.detail) if bar.detail else Markup()
    return Markup(
        '<tr><th scope="row">{label}{detail}</th><td>'
        '<svg width="100%" height="10" aria-hidden="true">'
        '<rect class="chart-bar" width="{width:.2f}%" height="10" rx="2"/></svg></td>'
        '<td class="bars-value">{shown}</td></tr>'
    ).format(label=label, detail=detail, width=100 * bar.value / longest, shown=bar.shown)
