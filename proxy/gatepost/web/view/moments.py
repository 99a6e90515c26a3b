"""Dates and times of iCalendar, and their time zones (RFC 5545 sections 3.3.4, 3.3.5 and 3.6.5)."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from gatepost.values import value
from gatepost.web.view.content_lines import Component

__all__ = [
    "MONTHS",
    "WEEKDAYS",
    "Duration",
    "Moment",
    "Offset",
    "date_words",
    "named_zone",
    "read_duration",
    "read_moment",
    "read_rule",
    "zone_offset",
]

Offset = Callable[[datetime], timedelta | None]
"""The offset from UTC at a local time; None where it is not known."""

_MOMENT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?(Z)?)?", re.ASCII)
_DURATION = re.compile(
    r"([+-])?P(?:(\d{1,5})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,5})M)?(?:(\d{1,6})S)?)?", re.ASCII
)
_UTC_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)(\d\d)?", re.ASCII)
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z][A-Za-z0-9_+-]{0,30}){0,2}", re.ASCII)
_YEARLY = re.compile(r"(-?[1-5])(MO|TU|WE|TH|FR|SA|SU)")
_MONTH = re.compile(r"0?[1-9]|1[0-2]")
WEEKDAYS = {
    "MO": "Monday",
    "TU": "Tuesday",
    "WE": "Wednesday",
    "TH": "Thursday",
    "FR": "Friday",
    "SA": "Saturday",
    "SU": "Sunday",
}
_YEARLY_PARTS = {"FREQ", "BYMONTH", "BYDAY", "UNTIL", "WKST", "INTERVAL"}
_OBSERVANCES_LIMIT = 50
_RULE_LIMIT = 500
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@value
class Moment:
    """A date, or a date with a time of day."""

    local: date | datetime
    """As it is written, without its time zone; a datetime has no tzinfo."""
    time_zone: str
    """``UTC``, the name as it is written, or empty: the time of wherever the reader is."""
    utc: datetime | None
    """The same in UTC; None for a date, and where the time zone is not known."""

    @property
    def all_day(self) -> bool:
        """True for a date without a time."""
        return not isinstance(self.local, datetime)

    def plus(self, duration: "Duration", offset: Offset | None = None) -> "Moment | None":
        """That much later; None where there is no such date."""
        try:
            local = self.local + duration.days + duration.time
            utc = self.utc + duration.days + duration.time if self.utc else None
            if offset and utc and isinstance(self.local, datetime):
                begins = _in_utc(self.local + duration.days, offset)
                utc = begins + duration.time if begins else None
                if utc and duration.time:
                    local = _at(utc, offset)
        except OverflowError:
            return None
        return Moment(local=local, time_zone=self.time_zone, utc=utc)


@value
class Duration:
    """Days, which may have 23 or 25 hours, and then hours, minutes and seconds, which are exact."""

    days: timedelta
    time: timedelta


def read_moment(text: str, time_zone: str = "", offset: Offset | None = None) -> Moment | None:
    """A DATE or DATE-TIME value; None for any other text. ``offset`` is that of the named time zone."""
    found = _MOMENT.fullmatch(text.strip())
    if not found:
        return None
    year, month, day, hour, minute, second = (int(number or 0) for number in found.groups()[:6])
    try:
        if not found[4]:
            return Moment(local=date(year, month, day), time_zone="", utc=None)
        local = datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001 - as it is written
        if found[7]:
            return Moment(local=local, time_zone="UTC", utc=local.replace(tzinfo=UTC))
        return Moment(local=local, time_zone=time_zone, utc=_in_utc(local, offset) if offset else None)
    except ValueError:
        return None


def _in_utc(local: datetime, offset: Offset) -> datetime | None:
    try:
        ahead = offset(local)
        return None if ahead is None else (local - ahead).replace(tzinfo=UTC)
    except (OverflowError, ValueError):  # at the ends of the calendar
        return None


def _at(utc: datetime, offset: Offset) -> datetime:
    """The local time at a moment: that from which the offset, before a change or after it, leads back."""
    bare = utc.replace(tzinfo=None)
    offsets = [offset(bare + timedelta(days=days)) or timedelta() for days in (-2, 2)]
    return max(
        (bare + ahead for ahead in offsets if offset(bare + ahead) == ahead), default=bare + offsets[-1]
    )


def read_duration(text: str) -> Duration | None:
    """A DURATION value (RFC 5545 section 3.3.6); None for any other text."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not any(found.groups()[1:]):
        return None
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in found.groups()[1:])
    sign = -1 if found[1] == "-" else 1
    return Duration(
        days=sign * timedelta(weeks=weeks, days=days),
        time=sign * timedelta(hours=hours, minutes=minutes, seconds=seconds),
    )


def read_rule(rule: str) -> dict[str, str]:
    """The parts of a recurrence rule (RFC 5545 section 3.3.10) by their names, all in upper case."""
    pairs = [part.partition("=") for part in rule[:_RULE_LIMIT].upper().split(";")]
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def date_words(day: date) -> str:
    """``Thursday, 3 December 2026``."""
    return f"{[*WEEKDAYS.values()][day.weekday()]}, {day.day} {MONTHS[day.month - 1]} {day.year}"


def named_zone(name: str) -> Offset | None:
    """The offsets of a time zone of the IANA database; None for a name that this machine does not know.

    Some programs write a path before the name: ``/freeassociation.sourceforge.net/Europe/Berlin``.
    """
    bare = "/".join(name.split("/")[-2:]) if name.startswith("/") else name
    if not _ZONE_NAME.fullmatch(bare):
        return None
    try:
        zone = ZoneInfo(bare)
    except (KeyError, ValueError, OSError):  # not known, not a time zone, a folder
        return None
    return lambda local: local.replace(tzinfo=zone).utcoffset()


def zone_offset(zone: Component) -> Offset | None:
    """The offsets that a VTIMEZONE describes; None for rules other than a weekday of a month each year."""
    observances = [one for one in zone.components if one.name in ("STANDARD", "DAYLIGHT")]
    read = [_observance(one) for one in observances[:_OBSERVANCES_LIMIT]]
    known = [one for one in read if one]
    if not known or len(known) < len(observances):
        return None

    def offset(local: datetime) -> timedelta:
        onsets = [
            (onset, one.offset)
            for one in known
            for year in (local.year, local.year - 1)
            if (onset := one.onset(year)) and onset <= local
        ]
        return max(onsets)[1] if onsets else min(known, key=lambda one: one.start).before

    return offset


@value
class _Observance:
    """Standard or daylight saving time: when it begins each year, and its offset."""

    start: datetime
    offset: timedelta
    before: timedelta
    month: int = 0
    """0: it began once."""
    weekday: int = 0
    number: int = 0
    """Which of these weekdays in the month; negative: from its end."""
    until: int = 9999
    """The last year."""

    def onset(self, year: int) -> datetime | None:
        if not self.month:
            return self.start
        if not self.start.year <= year <= self.until:
            return None
        first = self.start.replace(year=year, month=self.month, day=1)
        day = first + timedelta(days=(self.weekday - first.weekday()) % 7)
        days = [day + timedelta(weeks=week) for week in range(5)]
        days = [one for one in days if one.month == self.month]
        index = self.number - 1 if self.number > 0 else self.number
        return days[index] if -len(days) <= index < len(days) else None


def _observance(component: Component) -> _Observance | None:
    start = read_moment(component.text("DTSTART"))
    offset, before = (_utc_offset(component.text(name)) for name in ("TZOFFSETTO", "TZOFFSETFROM"))
    if start is None or not isinstance(start.local, datetime) or offset is None:
        return None
    began = _Observance(start=start.local, offset=offset, before=offset if before is None else before)
    if component.first("RDATE"):
        return None
    rule = component.text("RRULE")
    return _yearly(began, read_rule(rule)) if rule else began


def _yearly(began: _Observance, rule: Mapping[str, str]) -> _Observance | None:
    if rule.get("FREQ") != "YEARLY" or not rule.keys() <= _YEARLY_PARTS:
        return None
    day = _YEARLY.fullmatch(rule.get("BYDAY", ""))
    month = rule.get("BYMONTH", "")
    if not day or not _MONTH.fullmatch(month) or rule.get("INTERVAL", "1") != "1":
        return None
    until = read_moment(rule["UNTIL"]) if "UNTIL" in rule else None
    return _Observance(
        start=began.start,
        offset=began.offset,
        before=began.before,
        month=int(month),
        weekday=[*WEEKDAYS].index(day[2]),
        number=int(day[1]),
        until=until.local.year if until else 9999,
    )


def _utc_offset(text: str) -> timedelta | None:
    found = _UTC_OFFSET.fullmatch(text.strip())
    if not found:
        return None
    length = timedelta(hours=int(found[2]), minutes=int(found[3]), seconds=int(found[4] or 0))
    return -length if found[1] == "-" else length
