"""A filter in a process of its own: a program that `isolated` starts.

It reads requests (pickles, since it trusts the worker that started it) and answers with JSON. Between them
the filter's own tasks run. It ends with that worker, at the end of its input, and after an answer that used
much of its memory.
"""

import asyncio
import contextlib
import ctypes
import inspect
import json
import logging
import os
import pickle
import resource
import signal
import socket
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatepost.config.validation import mistakes_in
from gatepost.dns import Resolver
from gatepost.hookspecs import UnreachableError
from gatepost.pipeline.faults import FilterError, described, is_meant_for_operator, text_of
from gatepost.pipeline.filter_settings import make_filter, settings_model
from gatepost.pipeline.finder import Finder
from gatepost.pipeline.hooks import hooks_by_name
from gatepost.pipeline.plain import to_plain
from gatepost.pipeline.rule import Hook
from gatepost.place import Place
from gatepost.state import State

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_USED_UP = 0.6
"""Share of the memory that a filter may take for itself over time; then its process ends after an answer."""
_LOG_LIMIT = 2000
"""Characters of a log line."""
_LINES = 20
"""Log lines for one question."""
_LINES_BETWEEN = 40
"""Log lines, counts and times between two questions: the worker reads them with the next answer."""


def main(descriptor: int, parent: int) -> None:
    """Serve the worker at the other end of a socket."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere the end of input ends it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker decides
    with socket.socket(fileno=descriptor) as connection:
        channel = _Channel(connection)
        recipe = channel.receive()
        if recipe is None:
            return
        for limit, most in ((resource.RLIMIT_DATA, recipe["memory"]), (resource.RLIMIT_CORE, 0)):
            with contextlib.suppress(ValueError):  # it is lower already
                resource.setrlimit(limit, (most, most))
        with asyncio.Runner() as runner:
            _serve(channel, recipe, runner)


class _Channel:
    """Frames in both directions: eight bytes of length and a pickle come in, four and JSON go out."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._left: int | None = None
        """Messages that may still be sent before the next request; None: it has come."""

    def receive_meanwhile(self, runner: asyncio.Runner) -> Any:
        """The next request, while the filter's own tasks run; None at the end."""
        self._left = _LINES_BETWEEN
        runner.run(self._is_readable())
        self._left = None
        return self.receive()

    async def _is_readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._connection, readable.set_result, None)
        try:
            await readable
        finally:
            loop.remove_reader(self._connection)

    def receive(self) -> Any:
        """The next request; None at the end."""
        length = self._file.read(8)
        if len(length) < 8:
            return None
        return pickle.loads(self._file.read(int.from_bytes(length)))  # noqa: S301 - of the worker

    def tell(self, **message: Any) -> None:
        """Send what is no answer; between two requests only so much."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                return
        self.send(**message)

    def send(self, **message: Any) -> None:
        """Send a message."""
        data = json.dumps(message).encode("ascii")
        self._connection.sendall(len(data).to_bytes(4) + data)


class _Log(logging.Handler):
    """Sends log lines to the worker."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel
        self.left = _LINES
        """Lines that may still be sent; the others are dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        self.left -= 1
        if self.left >= 0:
            with contextlib.suppress(Exception):
                self._channel.tell(log=[record.levelno, self.format(record)[:_LOG_LIMIT]])


@dataclass(frozen=True, slots=True)
class _Made:
    """A filter, ready to be asked."""

    instance: object
    hooks: Mapping[str, Hook]


def _serve(channel: _Channel, recipe: Mapping[str, Any], runner: asyncio.Runner) -> None:
    log = _Log(channel)
    logging.basicConfig(handlers=[log], format="%(message)s")
    logging.getLogger("gatepost").setLevel(logging.INFO)
    if not recipe["probe"]:
        log.left = 0  # the first process has said what the filter logs when it is made
    made = _made(channel, recipe)
    if made is None:
        return
    log.left = _LINES
    if not recipe["probe"] and not _opened(made.instance, channel, runner):
        return
    side_by_side = getattr(made.instance, "side_by_side", False) is True
    hooks = {name: list(hook.arguments) for name, hook in made.hooks.items()}
    channel.send(ready={"hooks": hooks, "side_by_side": side_by_side})
    most = _data_bytes() + (recipe["memory"] - _data_bytes()) * _USED_UP
    last = False
    while not last and (request := channel.receive_meanwhile(runner)) is not None:
        number, name, arguments = request
        log.left = _LINES
        answer, last = _answer(made.hooks[name], arguments, runner)
        last = last or _data_bytes() > most
        channel.send(number=number, last=last, **answer)
    if close := getattr(made.instance, "close", None):
        with contextlib.suppress(Exception):
            _called(close, {}, runner)


def _made(channel: _Channel, recipe: Mapping[str, Any]) -> _Made | None:
    """The filter; None if it could not be made, which has been told."""
    name, base = recipe["filter"], recipe["base"]
    try:
        filter_class = Finder(base).filter_class(name)
        _refuse_state(filter_class, name)
        provided = {
            Place: Place(
                rule=recipe["rule"],
                folder=base,
                **recipe.get("place", {}),  # a worker that runs since before an upgrade sends none
                counter=lambda _rule, what: channel.tell(count=what),
                data_made=lambda _rule, source, seconds: channel.tell(made=[source, seconds]),
            ),
            Resolver: Resolver(servers=recipe["dns_servers"], timeout_seconds=recipe["dns_timeout"]),
        }
        try:
            instance = make_filter(filter_class, recipe["with"], name, base=base, provided=provided)
        except ValidationError as error:
            model, _ = settings_model(filter_class)  # type: ignore[arg-type]  # a class is hashable
            mistakes = [
                [list(one.location), one.is_key, one.what, one.expected] for one in mistakes_in(error, model)
            ]
            channel.send(mistakes=mistakes)
            return None
        except FilterError:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of another language too
            meant = isinstance(error, ValueError) and is_meant_for_operator(error)
            said = f": {text_of(error)}" if meant else f" could not be made: {described(error, base)}"
            channel.send(mistakes=[[[], False, f"filter {name!r}{said}", ""]])
            return None
        return _Made(instance, hooks_by_name(instance, name))
    except FilterError as error:
        channel.send(unusable=[error.what, error.expected])
        return None


def _refuse_state(filter_class: type[Any], name: str) -> None:
    """Raise FilterError for a filter with a `State`: its file is the worker's."""
    try:
        hints = typing.get_type_hints(filter_class.__init__)
    except Exception:  # noqa: BLE001 - `make_filter` says what is wrong with them
        return
    if State in hints.values():
        what = f"filter {name!r} remembers something (State), which it cannot in a process of its own"
        raise FilterError(what, "isolation: none")


def _opened(instance: object, channel: _Channel, runner: asyncio.Runner) -> bool:
    if function := getattr(instance, "open", None):
        try:
            _called(function, {}, runner)
        except BaseException as error:  # noqa: BLE001 - SystemExit too
            channel.send(raised=_raised(error))
            return False
    return True


def _called(function: Callable[..., Any], arguments: Mapping[str, Any], runner: asyncio.Runner) -> Any:
    answer = function(**arguments)
    return runner.run(answer) if inspect.iscoroutine(answer) else answer


def _answer(hook: Hook, arguments: Mapping[str, Any], runner: asyncio.Runner) -> tuple[dict[str, Any], bool]:
    """What the filter says or raises, and whether its process should end."""
    try:
        given = {name: arguments[name] for name in hook.arguments}
        return {"answer": to_plain(_called(hook.function, given, runner))}, False
    except BaseException as error:  # noqa: BLE001 - SystemExit and the panics of other languages too
        return {"raised": _raised(error)}, isinstance(error, MemoryError) or not isinstance(error, Exception)


def _raised(error: BaseException) -> dict[str, str]:
    kind = "other"
    if isinstance(error, OSError):
        kind = "unreachable" if isinstance(error, UnreachableError) else "os"
    trace = "".join(traceback.format_exception(error))[-10_000:]
    return {"name": type(error).__name__, "text": text_of(error)[:1000], "kind": kind, "trace": trace}


def _data_bytes() -> int:
    """What counts against RLIMIT_DATA; 0 where there is no proc(5)."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[5]) * resource.getpagesize()
    except OSError:
        return 0
