"""What the log says of a store that the desk cannot use, however many requests fail."""

import asyncio
import logging

from starlette.requests import Request

from gatepost.throttle import Throttle, and_more
from gatepost.web.readiness import Readiness

__all__ = ["StoreTrouble", "trouble_of"]

log = logging.getLogger("gatepost")

_PAUSE_SECONDS = 2.0
"""Between two looks at whether an outage is over."""


class StoreTrouble:
    """Has `Readiness` log an outage, at once and until it is over; for one event loop.

    What it does not see, for example a table that cannot be read, is one line at once and one a minute.
    """

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._throttle = Throttle()
        self._looking: asyncio.Task[None] | None = None

    def note(self, what: str, error: Exception) -> None:
        """A use of the store has failed; ``what`` begins the line about it, if there is one."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(what, error))

    async def _look(self, what: str, error: Exception) -> None:
        if (await self._readiness.passed_again())["store"]:
            if (left_out := self._throttle.admit(type(error).__name__)) is not None:
                log.error("%s: %s%s", what, error, and_more(left_out))
            return
        works = False
        while not works:
            await asyncio.sleep(_PAUSE_SECONDS)
            works = (await self._readiness.passed())["store"]

    def close(self) -> None:
        """Stop to look."""
        if self._looking:
            self._looking.cancel()


def trouble_of(request: Request) -> StoreTrouble:
    """That of the application."""
    found: StoreTrouble = request.app.state.store_trouble
    return found
