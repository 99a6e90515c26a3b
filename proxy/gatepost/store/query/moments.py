"""Moments in the past, as people write them in queries and options."""

import re
from datetime import UTC, datetime, timedelta

__all__ = ["past_moment"]

_AGO = re.compile(r"([0-9]{1,9})\s*([smhdw])", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def past_moment(text: str, *, now: datetime | None = None) -> datetime:
    """Of how long ago (``90m``, ``2h``, ``7d``), or of a date with or without a time; aware, UTC.

    ``now`` is what is counted back from, and its zone is that of dates which name none; default: the local
    time. Raises ValueError.
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2].lower()]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None and now:
            moment = moment.replace(tzinfo=now.tzinfo)
        return moment.astimezone(UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is out of range") from error
