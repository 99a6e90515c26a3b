"""A recurrence rule in words, where it is a simple one (RFC 5545 section 3.3.10)."""

import re

from gatepost.web.view.moments import MONTHS, WEEKDAYS, date_words, read_moment, read_rule

__all__ = ["recurrence_words"]

_WORDED = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "BYMONTHDAY", "BYMONTH", "WKST"})
_UNITS = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}
_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last", -2: "second to last"}
_DAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_NUMBER = re.compile(r"[1-9]\d{0,4}")


def recurrence_words(rule: str) -> str:
    """For example ``every 2 weeks on Monday and Friday, 10 times``; empty where it is not that simple."""
    parts = read_rule(rule)
    unit = _UNITS.get(parts.get("FREQ", ""))
    if unit is None or not parts.keys() <= _WORDED:
        return ""
    interval = parts.get("INTERVAL", "1")
    if not _NUMBER.fullmatch(interval):
        return ""
    words = [f"every {unit}" if interval == "1" else f"every {interval} {unit}s"]
    for name, read in (("BYMONTH", _months), ("BYMONTHDAY", _month_days), ("BYDAY", _days)):
        if name in parts:
            said = read(parts[name], unit)
            if not said:
                return ""
            words.append(said)
    end = _end(parts)
    return "" if end is None else " ".join(words) + end


def _months(value: str, _: str) -> str:
    numbers = value.split(",")
    if not all(_NUMBER.fullmatch(number) and int(number) <= 12 for number in numbers):
        return ""
    return f"in {_listed([MONTHS[int(number) - 1] for number in numbers])}"


def _month_days(value: str, _: str) -> str:
    if value == "-1":
        return "on the last day"
    numbers = value.split(",")
    if not all(_NUMBER.fullmatch(number) and int(number) <= 31 for number in numbers):
        return ""
    return f"on day {_listed(numbers)}"


def _days(value: str, unit: str) -> str:
    if value == "MO,TU,WE,TH,FR":
        return "from Monday to Friday"
    found = [_DAY.fullmatch(day) for day in value.split(",")]
    days = []
    for day in found:
        if day is None or (day[1] and unit not in ("month", "year")):
            return ""
        ordinal = _ORDINALS.get(int(day[1])) if day[1] else ""
        if ordinal is None:
            return ""
        days.append(f"the {ordinal} {WEEKDAYS[day[2]]}" if ordinal else WEEKDAYS[day[2]])
    return f"on {_listed(days)}"


def _end(parts: dict[str, str]) -> str | None:
    if "COUNT" in parts:
        count = parts["COUNT"]
        return (", once" if count == "1" else f", {count} times") if _NUMBER.fullmatch(count) else None
    if "UNTIL" in parts:
        until = read_moment(parts["UNTIL"])
        return f", until {date_words(until.local)}" if until else None
    return ""


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
