"""How many connections each client has on all nodes, counted on the server of the state.

Each process writes how many a client has with it, under a lease: what a process that was killed has written
is over when its lease is. It knows its own number, so nothing can drift: a number is replaced, never added
to, and a server that was restarted empty has all numbers again with the next renewal.

One question at a time is on its way, with all clients that came meanwhile in it. So the numbers of a process
arrive in order, and a connection waits for two answers at most.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gatepost.state.contract import StateError
from gatepost.state.redis import RedisClient, name_of

__all__ = ["ANSWER_SECONDS", "ConnectionCounts"]

log = logging.getLogger(__name__)

ANSWER_SECONDS = 1.0
"""For an answer of the server: so long a client waits for its greeting at most, once in an outage."""
_LEASE_SECONDS = 10
_RENEW_SECONDS = 3.0
_RETRY_SECONDS = 1.0
"""Between two questions while there is no answer; no connection waits for these."""
_GATHER_SECONDS = 0.05
"""How long the end of a connection may wait for others."""
_AT_ONCE = 200
"""Clients in one question."""
_TRIAL = ""
"""No client. A number is written for it first: a server that is full still does what only deletes."""
_SPACE = "@connections"
"""No filter has this name."""

_SETTLE = """
-- KEYS: the clients. ARGV: this process, the seconds of a lease, the limit, then for each client how many
-- connections it has with this process, and how many it wants. Returns how many of these it may have.
local now, admitted = tonumber(redis.call('TIME')[1]), {}
for i, key in ipairs(KEYS) do
  local held, wanted = tonumber(ARGV[2*i+2]), tonumber(ARGV[2*i+3])
  local processes, total, over = redis.call('HGETALL', key), held, {}
  for j = 1, #processes, 2 do
    if processes[j] ~= ARGV[1] then
      local count, ends = string.match(processes[j+1], '^(%d+) (%d+)$')
      if ends and tonumber(ends) > now then total = total + tonumber(count)
      else over[#over+1] = processes[j] end
    end
  end
  admitted[i] = math.max(0, math.min(wanted, tonumber(ARGV[3]) - total))
  local own = held + admitted[i]
  if own > 0 then
    redis.call('HSET', key, ARGV[1], string.format('%d %d', own, now + tonumber(ARGV[2])))
    redis.call('PEXPIRE', key, tonumber(ARGV[2]) * 1000)
  else
    over[#over+1] = ARGV[1]
  end
  for _, process in ipairs(over) do redis.call('HDEL', key, process) end
end
return admitted
"""


@dataclass(slots=True)
class _Client:
    """The connections of one client with this process."""

    held: int = 0
    """Those that were admitted."""
    waiting: list["asyncio.Future[bool | None]"] = field(default_factory=list)
    """Those that wait for an answer."""


class ConnectionCounts:
    """The counts of one process; for one event loop. Nothing is raised: what goes wrong is logged once."""

    def __init__(self, client: RedisClient, *, node: str, limit: int) -> None:
        """Connect to nothing yet.

        Args:
            client: of the server; its operations should end after `ANSWER_SECONDS`.
            node: the name of this node, to be read by people.
            limit: the most connections of a client.
        """
        self._server = client
        self._process = f"{node} {secrets.token_hex(8)}"
        self._limit = limit
        self._clients: dict[str, _Client] = {}
        self._changed: set[str] = set()
        """Clients whose number differs from that on the server, or that wait for an answer."""
        self._to_renew: list[str] = []
        self._due = asyncio.Event()
        self._failing_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_failing(self) -> bool:
        """True while the server does not answer: this process knows its own connections only."""
        return self._failing_since is not None

    def start(self) -> None:
        """Begin to count."""
        self._task = asyncio.ensure_future(self._keep_counting())

    async def enter(self, client: str) -> bool | None:
        """Count one more connection of the client; False if it has too many on all nodes together.

        None: nobody knows, and it is counted for this process.
        """
        known = self._clients.setdefault(client, _Client())
        if self.is_failing:
            known.held += 1
            return None
        answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        known.waiting.append(answer)
        self._changed.add(client)
        self._due.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.result() is not False:
                self.leave(client)  # the session was cut off together with the answer
            raise

    def leave(self, client: str) -> None:
        """A connection that `enter` has counted is over."""
        self._clients[client].held -= 1
        if not self._changed:
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._due.set)
        self._changed.add(client)

    async def close(self) -> None:
        """Take the counts of this process away, and let go of the server."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._admit_all()
        if not self.is_failing:
            names = list(self._clients)
            with suppress(StateError):
                for begin in range(0, len(names), _AT_ONCE):
                    await self._ask(dict.fromkeys(names[begin : begin + _AT_ONCE], (0, 0)))
        await self._server.close()

    async def _keep_counting(self) -> None:
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + _RENEW_SECONDS
        while True:
            if self._failing_since is not None:
                await asyncio.sleep(_RETRY_SECONDS)
                if loop.time() - self._failing_since > _LEASE_SECONDS:
                    self._forget_those_without_connections()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(renew_at):
                        await self._due.wait()
            self._due.clear()
            if self.is_failing or loop.time() >= renew_at:
                self._to_renew = list(self._clients)
                renew_at = loop.time() + _RENEW_SECONDS
            await self._settle_some()

    async def _settle_some(self) -> None:
        """Write some of the numbers that have changed, and then of those whose lease is to be renewed."""
        names = [self._changed.pop() for _ in range(min(_AT_ONCE, len(self._changed)))]
        while self._to_renew and len(names) < _AT_ONCE:
            names.append(self._to_renew.pop())
        if self._changed or self._to_renew:
            self._due.set()
        try:
            await self._settle([name for name in dict.fromkeys(names) if name in self._clients])
        except Exception as error:  # noqa: BLE001 - whatever it is, clients must not wait for an answer
            self._note_failure(error)
            self._admit_all()
            return
        if self._failing_since is not None:
            seconds = asyncio.get_running_loop().time() - self._failing_since
            self._failing_since = None
            log.warning("connections are counted on all nodes again, after %d s", seconds)

    async def _settle(self, names: Sequence[str]) -> None:
        """Write the numbers of these clients, and admit as many of those that wait as have room."""
        asked = {name: len(self._clients[name].waiting) for name in names}
        numbers = {name: (self._clients[name].held, wanted) for name, wanted in asked.items()}
        trial = {_TRIAL: (1, 0)} if self.is_failing else {}
        found = await self._ask(trial | numbers)
        for (name, wanted), number in zip(asked.items(), found[len(trial) :], strict=True):
            known = self._clients[name]
            answers, known.waiting = known.waiting[:wanted], known.waiting[wanted:]
            for place, answer in enumerate(answers):
                self._answer(name, answer, admitted=place < number)
            if not (known.held or known.waiting or name in self._changed):
                del self._clients[name]

    def _answer(self, name: str, answer: "asyncio.Future[bool | None]", *, admitted: bool | None) -> None:
        if answer.cancelled():  # its session has ended meanwhile
            self._changed.add(name)
            self._due.set()
            return
        if admitted is not False:
            self._clients[name].held += 1
        answer.set_result(admitted)

    async def _ask(self, numbers: dict[str, tuple[int, int]]) -> list[int]:
        """How many connections each client may have in addition; raises StateError."""
        arguments: list[str | int] = [self._process, _LEASE_SECONDS, self._limit]
        for held, wanted in numbers.values():
            arguments += (held, wanted)
        keys = [name_of(_SPACE, _LEASE_SECONDS, name) for name in numbers]
        found = await self._server.run_script(_SETTLE, keys, arguments)
        return [int(number) for number in found]

    def _note_failure(self, error: Exception) -> None:
        if self._failing_since is None:
            self._failing_since = asyncio.get_running_loop().time()
            log.error("connections are not counted on all nodes, limits.on_error applies: %s", error)

    def _admit_all(self) -> None:
        """Answer those that wait: nobody knows."""
        for name, known in self._clients.items():
            waiting, known.waiting = known.waiting, []
            for answer in waiting:
                self._answer(name, answer, admitted=None)

    def _forget_those_without_connections(self) -> None:
        """In a long outage: what the server knows of them is over."""
        self._clients = {name: known for name, known in self._clients.items() if known.held or known.waiting}
