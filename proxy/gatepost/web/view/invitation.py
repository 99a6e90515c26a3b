"""What a calendar invitation says (RFC 5545, RFC 5546, RFC 6047): the properties that a reader asks for.

A reader of its own, since a dozen properties are needed, of text that may be anything: bounded and linear.
"""

from datetime import date, datetime, timedelta

from gatepost.values import value
from gatepost.web.view.content_lines import Component, ContentLine, read_calendar, unescaped
from gatepost.web.view.moments import (
    Moment,
    Offset,
    date_words,
    named_zone,
    read_duration,
    read_moment,
    zone_offset,
)
from gatepost.web.view.recurrence import recurrence_words
from gatepost.web.view.text import visible, visible_line

__all__ = ["Attendee", "Invitation", "read_invitation"]

_ATTENDEES_LIMIT = 200
_DESCRIPTION_LIMIT = 4000
_PROBLEMS_LIMIT = 10
_KINDS = ("VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY")
_METHODS = frozenset({"PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER"})


@value
class Attendee:
    """The organizer, or somebody who is invited."""

    name: str
    """Empty where there is none."""
    address: str
    """Without ``mailto:``."""
    role: str
    """``chair``, ``req-participant``, ``opt-participant``, ``non-participant``, another one, or empty."""
    status: str
    """``needs-action``, ``accepted``, ``declined``, ``tentative``, ``delegated``, another one, or empty."""


@value
class Invitation:
    """The first event (or to-do) of a calendar in a message."""

    method: str
    """In upper case: ``REQUEST``, ``CANCEL``, ``REPLY``, another one, or empty."""
    kind: str
    """``event``, ``todo``, ``journal`` or ``freebusy``."""
    summary: str
    description: str
    location: str
    status: str
    """``confirmed``, ``tentative``, ``cancelled``, another one, or empty."""
    start: Moment | None
    end: Moment | None
    """Of a day-long event the day after its last one; of a to-do when it is due."""
    when: str
    """Start and end for a person, in the time zone of the start."""
    recurrence: str
    """In words where it is simple, for example ``every week on Monday, 10 times``; else the rule as it is."""
    organizer: Attendee | None
    attendees: tuple[Attendee, ...]
    """At most 200."""
    uid: str
    sequence: int
    """Which version of the event this is, from 0."""
    others: int
    """How many more events there are, for example changed occurrences."""
    problems: tuple[str, ...]
    """What of it a calendar program may not understand, for a person."""


def read_invitation(text: str, method: str = "", *, attached: bool = False) -> Invitation | None:
    """The invitation in the text of a text/calendar part; None where there is no event in it.

    ``method`` is the parameter of the part's Content-Type (RFC 6047 section 2.4), which a file that is only
    ``attached`` does not need.
    """
    calendar = read_calendar(text)
    if calendar is None:
        return None
    events = [component for component in calendar.components if component.name in _KINDS]
    if not events:
        return None
    event = events[0]
    problems = _Problems()
    zones = _Zones(calendar, problems)
    start = zones.moment(event, "DTSTART")
    end = _end(event, start, zones, problems)
    said = calendar.text("METHOD").strip().upper()
    if not attached:
        problems.of_method(said, method.strip().upper())
    problems.of_event(event, start)
    attendees = [line for line in event.properties if line.name == "ATTENDEE"]
    organizer = event.first("ORGANIZER")
    rule = event.first("RRULE")
    sequence = event.text("SEQUENCE").strip()
    return Invitation(
        method=visible_line(said or method.strip().upper(), 40),
        kind=event.name[1:].lower(),
        summary=_line(event.text("SUMMARY")),
        description=visible(event.text("DESCRIPTION")[:_DESCRIPTION_LIMIT]).strip(),
        location=_line(event.text("LOCATION")),
        status=_line(event.text("STATUS")).lower(),
        start=start,
        end=end,
        when=_when(start, end),
        recurrence=(recurrence_words(rule.value) or visible_line(rule.value, 200)) if rule else "",
        organizer=_attendee(organizer) if organizer else None,
        attendees=tuple([_attendee(line) for line in attendees[:_ATTENDEES_LIMIT]]),
        uid=visible_line(event.text("UID"), 255),
        sequence=int(sequence) if sequence.isascii() and sequence.isdigit() and len(sequence) < 10 else 0,
        others=len(events) - 1,
        problems=tuple(problems.found[:_PROBLEMS_LIMIT]),
    )


def _line(text: str) -> str:
    return visible_line(" ".join(text.split()), 500)


def _attendee(line: ContentLine) -> Attendee:
    value = line.value.strip()
    return Attendee(
        name=_line(line.parameters.get("CN", "")),
        address=visible_line(value[7:] if value[:7].lower() == "mailto:" else value, 320),
        role=_line(line.parameters.get("ROLE", "")).lower(),
        status=_line(line.parameters.get("PARTSTAT", "")).lower(),
    )


class _Problems:
    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        if problem not in self.found:
            self.found.append(problem)

    def unreadable(self, line: ContentLine) -> None:
        self.add(f"{line.name} cannot be read: {visible_line(line.value, 60)}")

    def of_method(self, said: str, declared: str) -> None:
        if not said:
            self.add("The calendar has no METHOD: mail programs show it as a file, not as an invitation")
        elif said not in _METHODS:
            self.add(f"METHOD {visible_line(said, 40)} is unknown")
        if said and declared != said:
            found = visible_line(declared, 40) or "missing"
            self.add(f"METHOD is {visible_line(said, 40)}, but method of Content-Type is {found}")

    def of_event(self, event: Component, start: Moment | None) -> None:
        required = ["UID", "DTSTAMP"]
        if event.name == "VEVENT" and start is None and not event.first("DTSTART"):
            required.append("DTSTART")
        if event.name == "VEVENT" and not event.first("SUMMARY"):
            required.append("SUMMARY")
        for name in required:
            if not event.first(name):
                self.add(f"The {event.name[1:].lower()} has no {name}")


class _Zones:
    """The time zones of a calendar."""

    def __init__(self, calendar: Component, problems: _Problems) -> None:
        self._described = {zone.text("TZID").strip(): zone for zone in calendar.all("VTIMEZONE")}
        self._offsets: dict[str, Offset | None] = {}
        self._problems = problems

    def moment(self, event: Component, name: str) -> Moment | None:
        line = event.first(name)
        if line is None:
            return None
        time_zone = line.parameters.get("TZID", "").strip()
        moment = read_moment(line.value, visible_line(time_zone, 100), self.offset(time_zone))
        if moment is None:
            self._problems.unreadable(line)
        return moment

    def offset(self, time_zone: str) -> Offset | None:
        if not time_zone:
            return None
        if time_zone not in self._offsets:
            described = self._described.get(time_zone)
            if described is None:
                self._problems.add(f"The time zone {visible_line(time_zone, 100)} has no VTIMEZONE")
            offset = zone_offset(described) if described else None
            self._offsets[time_zone] = offset or named_zone(time_zone)
        return self._offsets[time_zone]


def _end(event: Component, start: Moment | None, zones: _Zones, problems: _Problems) -> Moment | None:
    end = zones.moment(event, "DUE" if event.name == "VTODO" else "DTEND")
    if end is not None or start is None:
        return end
    if line := event.first("DURATION"):
        duration = read_duration(unescaped(line.value))
        if duration is None:
            problems.unreadable(line)
            return None
        return start.plus(duration, zones.offset(start.time_zone) if start.time_zone != "UTC" else None)
    return None


def _when(start: Moment | None, end: Moment | None) -> str:
    if start is None:
        return f"until {_words(end.local)}{_zone(end)}" if end else ""
    if end is None or end.all_day != start.all_day:
        return f"{_words(start.local)}{_zone(start)}"
    if start.all_day:
        last = end.local - timedelta(days=1) if end.local > start.local else start.local
        return (
            date_words(start.local)
            if last <= start.local
            else f"{date_words(start.local)} to {date_words(last)}"
        )
    if start.time_zone == end.time_zone and _day(start.local) == _day(end.local):
        return f"{_words(start.local)} to {_clock(end.local)}{_zone(start)}"
    first_zone = "" if start.time_zone == end.time_zone else _zone(start)
    return f"{_words(start.local)}{first_zone} to {_words(end.local)}{_zone(end)}"


def _day(moment: date) -> tuple[int, int, int]:
    return moment.year, moment.month, moment.day


def _words(moment: date) -> str:
    return f"{date_words(moment)}, {_clock(moment)}" if isinstance(moment, datetime) else date_words(moment)


def _clock(moment: date) -> str:
    return moment.strftime("%H:%M") if isinstance(moment, datetime) else ""


def _zone(moment: Moment) -> str:
    return f" ({moment.time_zone})" if moment.time_zone else "" if moment.all_day else " (local time)"
