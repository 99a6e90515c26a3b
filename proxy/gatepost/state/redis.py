"""The state on a Redis or Valkey server, which several gateways may share."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError
from redis.retry import Retry

from gatepost.state.contract import Amount, Counted, Entry, StateError, Value
from gatepost.state.windows import SLICES, Slices, fitted

__all__ = ["Password", "RedisClient", "RedisKeys", "RedisState", "name_of", "no_password"]

_SECONDS = 2.0
"""For an operation, with all it needs: a free connection, the password, the answer."""
_CONNECTIONS = 16
"""Of each process; further operations wait for one."""
_PREFIX = "gatepost"
_AT_ONCE = 1000
"""Keys that are looked up, or deleted, with one question."""
Password = Callable[[], str | None]
"""None: the server asks for none."""
_READ = {b"s": str, b"i": int, b"f": float}
_Result = TypeVar("_Result")

_ADD = """
-- KEYS: the counts. ARGV: 1 to write, then for each count the oldest slice of its window, the current slice,
-- the amount, the limit, and the milliseconds until it is over. Returns the slices that were there.
local found, added, room = {}, {}, true
for i, key in ipairs(KEYS) do
  local oldest, amount, limit = tonumber(ARGV[5*i-3]), tonumber(ARGV[5*i-1]), tonumber(ARGV[5*i])
  local slices, total = redis.call('HGETALL', key), added[key] or 0
  for j = 1, #slices, 2 do
    if tonumber(slices[j]) >= oldest then total = total + tonumber(slices[j+1]) end
  end
  if total + amount <= limit then added[key] = (added[key] or 0) + amount else room = false end
  found[i] = slices
end
if room and ARGV[1] == '1' then
  for i, key in ipairs(KEYS) do
    if added[key] then
      local oldest, current, total = tonumber(ARGV[5*i-3]), ARGV[5*i-2], added[key]
      local over = {}
      for j = 1, #found[i], 2 do
        local slice = tonumber(found[i][j])
        if slice >= tonumber(current) then total = total + tonumber(found[i][j+1]) end
        if slice < oldest or slice > tonumber(current) then over[#over+1] = found[i][j] end
      end
      -- First, because nothing must be deleted if the server is full.
      redis.call('HSET', key, current, string.format('%.0f', total))
      for _, slice in ipairs(over) do redis.call('HDEL', key, slice) end
      redis.call('PEXPIRE', key, ARGV[5*i+1])
      added[key] = nil
    end
  end
end
return found
"""
"""Decides as `fitted` does: all amounts are added, or none."""


def no_password() -> None:
    """None."""


class RedisClient:
    """A client of a server; it connects with the first operation, and again after what went wrong.

    An operation is never repeated: it may have been done, though there was no answer. After some errors the
    next one has new connections: see `_is_of_connections`.
    """

    def __init__(
        self,
        url: str,
        *,
        password: Password = no_password,
        ca: Path | None = None,
        connections: int = _CONNECTIONS,
        seconds: float | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: as redis-py reads it, without a password: ``redis://``, ``rediss://`` or ``unix://``.
            password: reads it when it is needed; it may raise OSError and ValueError.
            ca: PEM file of further authorities to trust with ``rediss://``.
            connections: the most; further operations wait for one.
            seconds: for an operation, with all it needs; None: 2 seconds.
        """
        self.url = url
        self._password = password
        self._ca = ca
        self._connections = connections
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: redis.asyncio.Redis | None = None
        self._running: set[asyncio.Task[Any]] = set()

    async def result(self, asked: Callable[[redis.asyncio.Redis], Coroutine[Any, Any, _Result]]) -> _Result:
        """The result of an operation; raises StateError."""
        loop = asyncio.get_running_loop()
        seconds = _SECONDS if self._seconds is None else self._seconds
        with _errors(self.url, seconds):
            if self._client is None or self._loop is not loop:
                self._loop, self._client = loop, self._connected(seconds)
            client = self._client
            task = loop.create_task(asked(client))
            self._running.add(task)
            task.add_done_callback(self._ended)
            try:
                await asyncio.wait((task,), timeout=seconds)
            finally:
                task.cancel()  # without waiting for it: redis-py may go on for a while when it is cancelled
            if not task.done():
                raise TimeoutError
            try:
                return task.result()
            except Exception as error:
                if _is_of_connections(error):
                    self._leave(client)
                raise

    async def run_script(self, script: str, names: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """What a script in Lua returns; raises StateError."""

        async def asked(client: redis.asyncio.Redis) -> Any:
            return await client.register_script(script)(names, arguments)

        return await self.result(asked)

    async def close(self) -> None:
        """Finish what was asked, and close the connections."""
        if self._running:
            await asyncio.wait(self._running, timeout=_SECONDS)
        if self._client and self._loop is asyncio.get_running_loop():
            await self._client.aclose()
        self._client = None

    def _leave(self, client: redis.asyncio.Redis) -> None:
        """Have the next operation connect anew; the connections are closed once nobody uses them."""
        if self._client is not client:  # another operation has done so
            return
        self._client = None
        closing = asyncio.create_task(_close_after(client, {*self._running}))
        self._running.add(closing)
        closing.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio logs that of a task that nobody waits for

    def _connected(self, seconds: float) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_pool(
            redis.asyncio.BlockingConnectionPool.from_url(
                self.url,
                max_connections=self._connections,
                timeout=None,
                retry=AsyncRetry(NoBackoff(), 0),
                **_options(self._password, self._ca, seconds),
            )
        )


async def _close_after(client: redis.asyncio.Redis, running: set[asyncio.Task[Any]]) -> None:
    if running:
        await asyncio.wait(running, timeout=_SECONDS)
    await client.aclose()


_OF_CONNECTIONS = (redis.ReadOnlyError, MasterDownError, redis.AuthenticationError)


def _is_of_connections(error: Exception) -> bool:
    """True for errors that new connections may not have.

    A server that became a replica keeps its connections, though its name or address may lead to the new one
    by now. The password in the file may be another one by now.
    """
    return isinstance(error, _OF_CONNECTIONS) or isinstance(error.__cause__, redis.AuthenticationError)


class RedisState:
    """A `Backend` on a server, which forgets what is over, and limits its memory."""

    def __init__(
        self,
        client: RedisClient,
        *,
        keeps_changes: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect to nothing yet.

        Args:
            client: of the server.
            keeps_changes: False: reads only; for a trial.
            clock: seconds since 1970, for windows; values end by the clock of the server.
        """
        self._client = client
        self._keeps_changes = keeps_changes
        self.now = clock

    async def get(self, space: str, key: str) -> Value | None:
        """The value, unless its time is over."""

        async def asked(client: redis.asyncio.Redis) -> Value | None:
            found = await client.get(name_of(space, 0, key))
            return None if found is None else _unpacked(found)

        return await self._client.result(asked)

    async def set(self, space: str, key: str, value: Value, seconds: float) -> None:
        """Replace the value."""

        async def asked(client: redis.asyncio.Redis) -> None:
            if self._keeps_changes:
                await client.set(name_of(space, 0, key), _packed(value), px=_milliseconds(seconds))

        await self._client.result(asked)

    async def add(self, space: str, amounts: tuple[Amount, ...]) -> tuple[Counted, ...]:
        """Add all amounts, or none if one of them has no room."""
        now = self.now()
        names = [name_of(space, one.seconds, one.key) for one in amounts]
        arguments: list[str | int] = [int(self._keeps_changes)]
        for one in amounts:
            current = math.floor(now / (one.seconds / SLICES))
            life = _milliseconds(one.seconds * (SLICES + 1) / SLICES)
            arguments += (current - SLICES, current, one.amount, one.limit, life)

        found = await self._client.run_script(_ADD, names, arguments)
        slices: dict[str, Slices] = {}
        with _errors(self._client.url, _SECONDS):
            slices |= {name: _slices(flat) for name, flat in zip(names, found, strict=True)}
        results = []
        for name, one in zip(names, amounts, strict=True):
            slices[name], counted = fitted(slices[name], one, now)
            results.append(counted)
        return tuple(results)

    async def close(self) -> None:
        """Finish what was asked, and close the connections."""
        await self._client.close()


class RedisKeys:
    """What filters remember on a server, for operators. Blocks; its methods raise `StateError`."""

    def __init__(self, url: str, *, password: Password = no_password, ca: Path | None = None) -> None:
        """Connect to nothing yet; the arguments are those of `RedisClient`."""
        self._url = url
        options = _options(password, ca, _SECONDS)
        self._client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)

    def entries(self, space: str) -> Iterator[Entry]:
        """What a filter remembers, in the order of the keys."""
        found = []
        with _errors(self._url, _SECONDS):
            for names in self._names(f"{quote(space, safe='')}:*"):
                pipeline = self._client.pipeline(transaction=False)
                for name in names:
                    pipeline.pttl(name)
                found += list(zip(names, pipeline.execute(), strict=True))
        now = time.time()
        entries = (_entry(name, now + left / 1000) for name, left in found if left > 0)
        return iter(sorted(entries, key=lambda entry: (entry.key, entry.window_seconds)))

    def spaces(self) -> dict[str, int]:
        """The filters that remember something, with the number of their entries."""
        numbers: dict[str, int] = {}
        with _errors(self._url, _SECONDS):
            for names in self._names("*"):
                for name in names:
                    space = unquote(name.split(b":", 3)[1].decode())
                    numbers[space] = numbers.get(space, 0) + 1
        return dict(sorted(numbers.items()))

    def forget(self, space: str, keys: Iterable[str]) -> None:
        """Delete the values and counts of these keys."""
        unwanted = set(keys)
        with _errors(self._url, _SECONDS):
            for names in self._names(f"{quote(space, safe='')}:*"):
                if found := [name for name in names if _entry(name, 0).key in unwanted]:
                    self._client.delete(*found)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _names(self, pattern: str) -> Iterator[list[bytes]]:
        """The names of values and counts, each once, so many at once."""
        found = self._client.scan_iter(f"{_PREFIX}:{pattern}", count=_AT_ONCE)
        names = list({name for name in found if name.count(b":") >= 3})  # SCAN may return one twice
        return (names[begin : begin + _AT_ONCE] for begin in range(0, len(names), _AT_ONCE))


def _options(password: Password, ca: Path | None, seconds: float) -> dict[str, Any]:
    try:
        secret = password()
    except (OSError, ValueError) as error:
        raise StateError(f"the password of the state's server cannot be read: {error}") from error
    return {
        "password": secret,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "protocol": 2,  # without HELLO, which servers before 6 do not know
        "driver_info": None,  # sent at once, it hides why a server refuses the connection
        **({"ssl_ca_certs": str(ca)} if ca else {}),
    }


@contextmanager
def _errors(url: str, seconds: float) -> Iterator[None]:
    """What goes wrong with the server is a `StateError`."""
    try:
        yield
    except StateError:
        raise
    except Exception as error:
        raise StateError(f"the state on {url} {_meaning(error, seconds)}") from error


def _meaning(error: Exception, seconds: float) -> str:
    if isinstance(error.__cause__, redis.AuthenticationError):  # redis-py wraps it on a Unix socket
        error = error.__cause__
    match error:
        case TimeoutError() | redis.TimeoutError():
            return f"did not answer within {seconds:g} s"
        case redis.AuthenticationError():
            return f"refused the password: {error}"
        case redis.OutOfMemoryError():
            return f"is full: {error}"
        case redis.BusyLoadingError() | redis.ResponseError():
            why, _, advice = str(error).partition(". ")
            return f"refused a command: {why if advice.startswith('In this mode') else error}"
        case redis.ConnectionError() | OSError():
            return f"cannot be reached: {error}"
    return f"answered what is no answer of Redis: {type(error).__name__}: {error}"


def name_of(space: str, seconds: float, key: str) -> str:
    """The name on the server of a value (0 seconds) or of a count, like ``gatepost:ratelimit:60:joe``."""
    return f"{_PREFIX}:{quote(space, safe='')}:{seconds:.15g}:{key}"


def _entry(name: bytes, ends: float) -> Entry:
    _, _, seconds, key = name.decode("utf-8", "replace").split(":", 3)
    return Entry(key=key, window_seconds=math.ceil(float(seconds)), ends=ends)


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _slices(flat: list[bytes]) -> Slices:
    return {int(number): int(count) for number, count in zip(flat[::2], flat[1::2], strict=True)}


def _packed(value: Value) -> bytes:
    """The value behind a letter for its type."""
    if isinstance(value, bytes):
        return b"b" + value
    if isinstance(value, str):
        return b"s" + value.encode()
    return f"{type(value).__name__[0]}{value!r}".encode()


def _unpacked(packed: Any) -> Value:
    kind, rest = packed[:1], packed[1:]
    if kind == b"b":
        return bytes(rest)
    read: Callable[[str], Value] = _READ[kind]
    return read(rest.decode())
