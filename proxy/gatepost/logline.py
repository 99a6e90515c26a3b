"""What is written to the log: text for people, and fields for programs that read it as JSON."""

import logging
import os
from collections.abc import Mapping
from time import time

__all__ = ["LaterRecord", "LogLine", "log_later"]


class LogLine:
    """A message for a logger, instead of a text with ``%s``.

    With ``log: json`` the fields are members of the line's object, next to the text; docs/operating.md lists
    their names. Values are of JSON's own types.
    """

    __slots__ = ("_fields", "_text")

    def __init__(self, text: str, /, **fields: object) -> None:
        self._text = text
        self._fields = fields

    def __str__(self) -> str:
        return self._text

    def fields(self) -> Mapping[str, object]:
        """The fields by name; None where a value is not known."""
        return self._fields


class _Process:
    """What all records of this process have in common."""

    def __init__(self) -> None:
        self.note()
        os.register_at_fork(after_in_child=self.note)

    def note(self) -> None:
        record = logging.LogRecord("", logging.INFO, "", 0, "", (), None)
        record.thread = record.threadName = None
        self.common = vars(record)
        self.started = record.created - record.relativeCreated / 1000


_process = _Process()


class LaterRecord(logging.LogRecord):
    """A record with level INFO that a handler may write a little later, together with others.

    Every message has one. `logging` would look up the caller, the thread and the process for each,
    which takes longer than writing it. Other handlers can treat it like any record.
    """

    def __init__(self, logger: str, line: LogLine) -> None:  # not the base class's: that is what takes long
        created = time()
        self.__dict__ = {
            **_process.common,
            "name": logger,
            "msg": line,
            "created": created,
            "msecs": created % 1 * 1000,
            "relativeCreated": (created - _process.started) * 1000,
        }


def log_later(logger: logging.Logger, line: LogLine) -> None:
    """Log a line with level INFO, which a handler may write later; see `LaterRecord`."""
    if logger.isEnabledFor(logging.INFO):
        logger.handle(LaterRecord(logger.name, line))
