"""The options by which several commands choose records and messages: from whom, for whom, since when."""

from datetime import datetime
from typing import Annotated, Final

import typer

__all__ = ["MOST", "Newest", "Recipient", "Sender", "Since", "Until", "moment"]

MOST: Final = 10**18 - 1
"""The largest number of rows to ask for: a store calculates with 64 bits, and settings have 18 digits."""

Sender = Annotated[
    str | None,
    typer.Option(
        help="From this reverse-path (MAIL FROM); * for any characters, '' for <>.", metavar="ADDRESS"
    ),
]
Recipient = Annotated[
    str | None,
    typer.Option(help="For this forward-path (RCPT TO); * for any characters.", metavar="ADDRESS"),
]
Since = Annotated[
    str | None,
    typer.Option(help="Not older than this: 1h, 7d, 2026-11-30, 2026-11-30T08:00.", metavar="TIME"),
]
Until = Annotated[str | None, typer.Option(help="Older than this.", metavar="TIME")]
Newest = Annotated[int, typer.Option("--limit", "-n", help="At most this many, the newest.", min=1, max=MOST)]


def moment(text: str | None, option: str) -> datetime | None:
    """The time of an option: how long ago (``90m``, ``1h``, ``7d``), or local date and time; None without it.

    Raises BadParameter.
    """
    if text is None:
        return None
    from gatepost.store.query import past_moment  # noqa: PLC0415 - the store is slow to import

    try:
        return past_moment(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}, expected a time like 1h, 30m, 7d, 2026-11-30 or 2026-11-30T08:00", param_hint=option
        ) from None
