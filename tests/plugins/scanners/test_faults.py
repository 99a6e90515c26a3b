"""Whatever a service does, `on_error` decides: each filter that asks one, and each fault of the service."""

import asyncio
import contextlib
import json
import logging
import re
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gatepost.pipeline.breaker import Breaker
from gatepost.testing import RunningGateway, make_transaction, running_gateway

sys.path.insert(0, str(Path(__file__).parent))
from scanner_servers import scripted

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
SMALL = b"Subject: small\r\n\r\nHello\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * 80_000
"""More than the system takes in for a server that does not read."""


def packet(letter: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + letter + data


# How each service is spoken to -----------------------------------------------------------------------------


async def to_clamd(reader: Reader, _writer: Writer) -> bytes:
    """Read the request; returns the answer that lets the message pass."""
    assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
    while length := int.from_bytes(await reader.readexactly(4)):
        await reader.readexactly(length)
    return b"stream: OK\0"


async def to_rspamd(reader: Reader, _writer: Writer) -> bytes:
    await read_body(reader)
    return PASSED_BY_RSPAMD


async def to_spamd(reader: Reader, _writer: Writer) -> bytes:
    await read_body(reader)
    return PASSED_BY_SPAMD


async def to_service(reader: Reader, _writer: Writer) -> bytes:
    return response({"id": json.loads(await read_body(reader))["id"], "action": "pass"})


async def to_milter(reader: Reader, writer: Writer) -> bytes:
    """Answer all but the end of the message, so that the fault comes then."""
    while True:
        letter = await read_packet(reader)
        if letter == b"E":
            return packet(b"a")
        if letter == b"O":
            writer.write(OFFER)
        elif letter != b"D":
            writer.write(packet(b"c"))
        await writer.drain()


async def read_body(reader: Reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert found
    return await reader.readexactly(int(found[1]))


async def read_packet(reader: Reader) -> bytes:
    content = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
    return content[:1]


def response(answer: dict[str, Any]) -> bytes:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


OFFER = packet(b"O", struct.pack("!III", 6, 0x1FF, 0))
PASSED_BY_RSPAMD = response(
    {
        "is_skipped": False,
        "score": 1.0,
        "required_score": 15.0,
        "action": "no action",
        "symbols": {},
        "messages": {},
        "time_real": 0.1,
    }
)
PASSED_BY_SPAMD = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 1.0 / 5.0\r\n\r\n"


@dataclass(frozen=True)
class Service:
    """One that a filter asks."""

    settings: dict[str, Any]
    request: Callable[[Reader, Writer], Awaitable[bytes]]
    """Reads it; returns the answer that lets the message pass."""
    early: bytes
    """That answer, before anything is read."""
    address: str = "address"
    """The setting for it."""

    def rule(self, name: str, address: str, **more: Any) -> dict[str, Any]:
        where = f"http://{address}/" if self.address == "url" else address
        return {"name": name, "filter": name, "with": {**self.settings, self.address: where}, **more}


SERVICES = {
    "clamav": Service({"watch": False}, to_clamd, b"stream: OK\0"),
    "rspamd": Service({}, to_rspamd, PASSED_BY_RSPAMD),
    "spamassassin": Service({}, to_spamd, PASSED_BY_SPAMD),
    "milter": Service({"names": False}, to_milter, OFFER + packet(b"c") * 20 + packet(b"a")),
    "web_service": Service({}, to_service, response({"id": "", "action": "pass"}), "url"),
}


# Faults ----------------------------------------------------------------------------------------------------

Fault = Callable[[Service, Reader, Writer], Coroutine[Any, Any, None]]


async def behaving(service: Service, reader: Reader, writer: Writer) -> None:
    writer.write(await service.request(reader, writer))
    await writer.drain()


async def byte_by_byte(service: Service, reader: Reader, writer: Writer) -> None:
    for byte in await service.request(reader, writer):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)


async def closing(_service: Service, _reader: Reader, _writer: Writer) -> None: ...


async def closing_in_mid_message(_service: Service, reader: Reader, _writer: Writer) -> None:
    await reader.read(1)


async def closing_without_an_answer(service: Service, reader: Reader, writer: Writer) -> None:
    await service.request(reader, writer)


async def closing_within_its_answer(service: Service, reader: Reader, writer: Writer) -> None:
    writer.write((await service.request(reader, writer))[:-1])
    await writer.drain()


async def never_reading(_service: Service, _reader: Reader, _writer: Writer) -> None:
    await asyncio.sleep(60)


async def silent(service: Service, reader: Reader, writer: Writer) -> None:
    await service.request(reader, writer)
    await asyncio.sleep(60)


async def too_slow(service: Service, reader: Reader, writer: Writer) -> None:
    answer = await service.request(reader, writer)
    for byte in answer[:-1]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.01)
    await asyncio.sleep(60)


async def garbage(service: Service, reader: Reader, writer: Writer) -> None:
    await service.request(reader, writer)
    writer.write(b"\xff\xfeperhaps\0\r\n\r\n")
    await writer.drain()


async def garbage_at_once(service: Service, reader: Reader, writer: Writer) -> None:
    writer.write(b"220 mx.example.org ESMTP\r\n")
    await writer.drain()
    await service.request(reader, writer)


async def too_much(service: Service, reader: Reader, writer: Writer) -> None:
    answer = await service.request(reader, writer)
    while True:
        writer.write(answer[:-1] * 1000)
        await writer.drain()


async def early(service: Service, reader: Reader, writer: Writer) -> None:
    writer.write(service.early)
    await writer.drain()
    await service.request(reader, writer)


async def twice(service: Service, reader: Reader, writer: Writer) -> None:
    writer.write(2 * await service.request(reader, writer))
    await writer.drain()


FAULTS: dict[str, Fault] = {
    "closing": closing,
    "closing in mid-message": closing_in_mid_message,
    "closing without an answer": closing_without_an_answer,
    "closing within its answer": closing_within_its_answer,
    "never reading": never_reading,
    "silent": silent,
    "too slow": too_slow,
    "garbage": garbage,
    "garbage at once": garbage_at_once,
    "too much": too_much,
    "early": early,
    "twice": twice,
}
WITH_A_LARGE_MESSAGE = {"closing in mid-message", "never reading", "early"}
LATE = {"never reading", "silent", "too slow"}
FIRST_COUNTS = {"milter", "web_service"}
"""Their answers say where they end: another one behind it is not read."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    with running_gateway({}) as running:
        yield running


@contextlib.contextmanager
def served(service: Service, fault: Fault) -> Iterator[tuple[str, list[Fault]]]:
    """A server in a thread of its own: its address, and what it does, which can be replaced."""
    started, stop = threading.Event(), threading.Event()
    found: list[str] = []
    conduct = [fault]

    async def script(reader: Reader, writer: Writer) -> None:
        await conduct[0](service, reader, writer)

    async def serve() -> None:
        async with scripted(script) as server:
            found.append(server.address)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    try:
        yield found[0], conduct
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_defers_the_message_and_the_next_one_passes(
    gateway: RunningGateway, name: str, fault: str
) -> None:
    service = SERVICES[name]
    content = LARGE if fault in WITH_A_LARGE_MESSAGE else SMALL
    with served(service, FAULTS[fault]) as (address, conduct):
        timeout = "500ms" if fault in LATE else "30s"
        gateway.reload({"rules": [service.rule(name, address, timeout=timeout)]})
        reply = gateway.send(make_transaction(content))
        results = {str(one.result) for one in gateway.journal()[0].evaluations} - {"pass"}
        if fault == "twice" and name in FIRST_COUNTS:
            assert (reply.code, results) == (250, set())
        else:
            assert (reply.code, results) == (451, {"timeout" if fault in LATE else "error"})
            assert "127.0.0.1" not in str(reply)
        conduct[0] = byte_by_byte
        until = time.monotonic() + 30
        after = SMALL if fault in LATE else content  # a large one may take longer than 500 ms each time
        while gateway.send(make_transaction(after)).code != 250:  # which may be short for a small one
            assert time.monotonic() < until


@pytest.mark.parametrize("name", SERVICES)
def test_a_fault_is_skipped_or_leads_to_quarantine_as_written(gateway: RunningGateway, name: str) -> None:
    service = SERVICES[name]
    with served(service, garbage) as (address, _):
        for on_error, disposition in (("skip", "inbox"), ("quarantine", "quarantined")):
            gateway.reload({"rules": [service.rule(name, address, timeout="30s", on_error=on_error)]})
            assert gateway.send(make_transaction()).code == 250
            (recipient,) = gateway.journal()[0].recipients
            assert str(recipient.disposition) == disposition


@pytest.mark.parametrize("command", [b"O", b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B"])
def test_a_milter_that_answers_a_command_twice_does_not_answer_the_next_one(
    gateway: RunningGateway, command: bytes
) -> None:
    """Else its last answer, a refusal, would be that to nothing."""

    async def script(_service: Service, reader: Reader, writer: Writer) -> None:
        while letter := await read_packet(reader):
            answer = {b"O": OFFER, b"D": b"", b"E": packet(b"r")}.get(letter, packet(b"c"))
            writer.write(answer + (packet(b"c") if letter == command else b""))
            await writer.drain()

    service = SERVICES["milter"]
    with served(service, script) as (address, _):
        gateway.reload({"rules": [service.rule("milter", address, timeout="30s")]})
        reply = gateway.send(make_transaction(b"Subject: small\r\n\r\nHello\r\n"))
        assert (reply.code, "sent " in gateway.journal()[0].evaluations[-1].reason) == (451, True)


def test_an_outage_is_one_line_of_the_log_and_the_metrics_show_a_rule_that_is_not_asked(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setattr("gatepost.pipeline.engine.Breaker", lambda: Breaker(lambda: 1000.0))
    caplog.set_level(logging.WARNING)
    address = f"127.0.0.1:{closed_port}"
    with running_gateway({"rules": [SERVICES["spamassassin"].rule("spamassassin", address)]}) as gateway:
        assert [gateway.send(make_transaction()).code for _ in range(7)] == [451] * 7
        reasons = [record.evaluations[0].reason for record in reversed(gateway.journal())]
        assert all(f"spamd at {address}: " in reason for reason in reasons[:5])
        assert all(reason.endswith("asked again in 10 s") for reason in reasons[6:])
        samples = gateway._service.samples()
        assert samples["rules_out_of_service", "spamassassin", "all"] == 1
        (line,) = [record for record in caplog.records if "spamassassin" in record.getMessage()]
        assert f"spamd at {address}: " in line.getMessage()
