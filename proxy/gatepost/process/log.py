"""The log of a running gateway: text or JSON, on standard error, in systemd's journal or in syslog."""

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import SysLogHandler
from typing import TextIO

from gatepost.config.log import LogSettings
from gatepost.logline import LaterRecord, LogLine
from gatepost.printable import printable

__all__ = ["announce", "log_as", "set_up_log", "with_priority", "write_log"]

log = logging.getLogger("gatepost")

_AUDIT = "gatepost.audit"
_SYSLOG = "/dev/log"
_LATER_SECONDS = 0.05
"""How long a line may wait for others."""
_TOGETHER_BYTES = 4096
"""Bytes written together: a pipe takes so many whole, with no other process's line among them (pipe(7))."""
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
"""Levels and their priorities in syslog(3) and in systemd's journal; below them all is 7, debug."""


def set_up_log(level: int) -> None:
    """Log text to standard error until `log_as` is called; warnings of Python's are logged too."""
    logging.getLogger().setLevel(level)
    logging.captureWarnings(capture=True)
    log_as(LogSettings())


def log_as(settings: LogSettings, *, node: str = "", is_named: bool = False) -> None:
    """Write the log from now on as the settings say; processes that are started later do so too.

    Args:
        settings: format and place.
        node: the name of this node, which lines in JSON have; empty: there is none.
        is_named: the settings have that name, so that lines of the audit log have it as text too.
    """
    lines: logging.Formatter = (
        _Json(node)
        if settings.format == "json"
        else _Text(timed=settings.to != "syslog", node=node if is_named else "")
    )
    handler: logging.Handler
    if settings.to == "syslog":
        handler, lines = _Syslog(_SYSLOG, SysLogHandler.LOG_MAIL, socket.SOCK_DGRAM), _Named(lines)
    else:
        handler = _Stream(sys.stderr)
        lines = _Prefixed(lines) if _is_journal(sys.stderr) else lines
    handler.setFormatter(lines)
    logging.basicConfig(handlers=[handler], force=True)


def write_log() -> None:
    """Write the lines that wait for others: the event loop that would do it has ended."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Stream):
            handler.write_now()


def announce(text: str) -> None:
    """Log a line even if only warnings are logged."""
    log.handle(log.makeRecord(log.name, logging.INFO, "", 0, text, (), None))


def with_priority(text: str, level: int) -> str:
    """The text as standard error takes it: for systemd's journal each line begins with its priority."""
    return _prefixed(text, level) if _is_journal(sys.stderr) else text


def _is_journal(stream: TextIO) -> bool:
    """True if systemd's journal reads the stream (``JOURNAL_STREAM`` in systemd.exec(5))."""
    expected = os.environ.get("JOURNAL_STREAM")
    if not expected:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return expected == f"{status.st_dev}:{status.st_ino}"


def _prefixed(text: str, level: int) -> str:
    prefix = f"<{_priority(level)}>"
    return prefix + text.replace("\n", f"\n{prefix}")


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)


class _Stream(logging.StreamHandler[TextIO]):
    """Standard error. A `LaterRecord` waits for others; any other is written at once, behind those that wait.

    They wait only in a thread with an event loop, which writes them in time. A process that is killed loses
    them.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._own_lock = self.lock or threading.RLock()  # there is one: it is None in the types alone
        self._waiting: list[str] = []
        self._bytes = 0
        self._written_by: asyncio.AbstractEventLoop | None = None
        """The loop that has a timer to write them."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record now or later."""
        if type(record) is not LaterRecord:
            return super().handle(record)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return super().handle(record)
        try:
            line = self.format(record) + self.terminator
        except Exception:  # noqa: BLE001 - as `logging` does: a mistake in a line must not reach its message
            self.handleError(record)
            return True
        size = len(line) if line.isascii() else len(line.encode("utf-8", "backslashreplace"))
        with self._own_lock:
            if self._bytes + size > _TOGETHER_BYTES:
                self._write_waiting()
            self._waiting.append(line)
            self._bytes += size
            if self._written_by is not loop:
                self._written_by = loop
                loop.call_later(_LATER_SECONDS, self._write_in_time)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, behind those that wait."""
        self._write_waiting()
        super().emit(record)

    def flush(self) -> None:
        """Write what waits."""
        with self._own_lock:
            self._write_waiting()
            super().flush()

    def close(self) -> None:
        """Write what waits; the stream stays open."""
        self.write_now()
        super().close()

    def write_now(self) -> None:
        """Write what waits; nothing is raised."""
        with self._own_lock:
            self._write_waiting()

    def _write_in_time(self) -> None:
        self._written_by = None
        self.write_now()

    def _write_waiting(self) -> None:
        """Write what waits; the lock is held. Where that fails there is no other place to say so."""
        if self._waiting:
            lines, self._waiting, self._bytes = "".join(self._waiting), [], 0
            with suppress(OSError, ValueError):  # ValueError: it is closed
                self.stream.write(lines)
                self.stream.flush()


class _Text(logging.Formatter):
    """One line for each event; further lines, such as a traceback, are indented.

    Control characters are escaped: an exception may contain what a client sent.
    """

    def __init__(self, *, timed: bool, node: str) -> None:
        super().__init__()
        self._timed = timed
        self._audited = f" node={node}" if node else ""
        self._now = (0, "")
        """A second since 1970, and how it is shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as text for a terminal or a file."""
        text = f"{record.levelname} {super().format(record)}"
        if self._audited and record.name == _AUDIT:
            text += self._audited
        if self._timed:
            text = f"{self._time(int(record.created))} {text}"
        if text.isprintable():
            return text
        first, *rest = text.split("\n")
        return "\n    ".join((printable(first), *map(printable, rest)))

    def _time(self, second: int) -> str:
        if self._now[0] != second:
            self._now = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return self._now[1]


class _Json(logging.Formatter):
    """One JSON object (RFC 8259) for each event, on one line and in ASCII."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = {"node": node} if node else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as JSON; fields that are None are left out."""
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "process": record.process,
            **self._node,
        }
        if isinstance(record.msg, LogLine):
            told |= {name: value for name, value in record.msg.fields().items() if value is not None}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


class _Prefixed(logging.Formatter):
    """Puts the priority before each line, as systemd's journal expects it (sd-daemon(3))."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Return the event with its priority."""
        return _prefixed(self._lines.format(record), record.levelno)


class _Named(logging.Formatter):
    """Puts the program and its process before the event, as syslog(3) does."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Return the event with the name of its program."""
        return f"gatepost[{record.process}]: {self._lines.format(record)}"


class _Syslog(SysLogHandler):
    """The local syslog daemon; what it does not accept is written to standard error."""

    append_nul = False  # daemons do not need it, and some show it

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Write the event to standard error: the daemon is not there, or the event is too long for it."""
        print(self.format(record), file=sys.stderr)  # noqa: T201 - where else
