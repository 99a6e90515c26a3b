"""The operation that imports a file: one message, or an mbox."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from mmap import ACCESS_READ, mmap
from typing import IO

from starlette.requests import ClientDisconnect, Request

from gatepost.mime.mbox import Octets
from gatepost.model.saved import (
    FILE_OCTETS,
    SavedError,
    SavedMessage,
    read_saved_mbox,
    read_saved_message,
)
from gatepost.model.user import Need
from gatepost.store import StoreError
from gatepost.web.api.change_responses import Imported, ImportedMessage, NotImported, NotStored
from gatepost.web.api.operation import Call, Link, NoBody, NoParameters, Operation
from gatepost.web.audit import note
from gatepost.web.desk import Desk
from gatepost.web.problems import Kind, Problem, WrongValue

__all__ = ["operations"]

log = logging.getLogger(__name__)

_PIECE_OCTETS = 1 << 20
_ERRORS = 20
_MESSAGE = "message/rfc822"
_MBOX = "application/mbox"
_EXAMPLE = """\
From: Shop <shop@example.org>
To: Bob <bob@example.com>
Subject: Your code

Your code is 482913.
"""
_FILES = {_MESSAGE: _EXAMPLE, _MBOX: f"From shop@example.org Mon Nov 30 08:00:00 2026\n{_EXAMPLE}\n"}
_NO_IMPORT = (
    "The store of a gateway has only mail that it has received; import into a server of gatepost complaints"
)
_DESCRIPTION = """
For `gatepost complaints` only. The body is one message, or an mbox of at most 10,000. A file may have 1 GiB,
a message 128 MiB. Nothing is imported before the whole file has arrived.

The envelope is read from the message, since there is no SMTP conversation; no rule is asked. What is not
imported of an mbox is listed with its reason. If nothing is, the status is 400.
""".strip()


async def _import(call: Call[NoParameters, NoBody]) -> Imported:
    desk, request = call.desk, call.request
    if desk.imports is None:
        raise Problem(Kind.NO_IMPORT, _NO_IMPORT)
    is_mbox = _media_type(request) == _MBOX
    with _temporary_file() as file:
        await _receive(request, desk, file)
        with _mapped(file) as data:
            saved = await desk.call(_read_mbox if is_mbox else _read_message, data)
            lines: list[int] = []
            refused: list[SavedError] = []
            client = ip_address(request.client.host if request.client else "127.0.0.1")
            messages = _messages(saved, lines=lines, refused=refused)
            results = await desk.import_messages(messages, client=client)
    log.info("web desk: imported %d messages, not imported: %d, client=%s", len(lines), len(refused), client)
    note(request, *(one for one in results if isinstance(one, str)))
    return _answer(lines, results, refused)


def _media_type(request: Request) -> str:
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind not in _FILES:
        raise Problem(
            Kind.WRONG_MEDIA_TYPE,
            f"found the Content-Type {given[:100]!r}, expected {_MESSAGE}, or {_MBOX} for an mbox",
        )
    return kind


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        log.error("web desk: a file to import cannot be written: %s", error)  # noqa: TRY400 - it says enough
        raise Problem(Kind.STORE, "The file cannot be written; see the log of gatepost") from None


async def _receive(request: Request, desk: Desk, file: IO[bytes]) -> None:
    size, piece = 0, bytearray()
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > FILE_OCTETS:
                raise Problem(Kind.TOO_LARGE, f"The file has {size} bytes or more, at most {FILE_OCTETS}")
            piece += chunk
            if len(piece) >= _PIECE_OCTETS:
                await desk.call(file.write, piece)
                piece = bytearray()
    except ClientDisconnect:
        raise Problem(Kind.WRONG_REQUEST, "The client left before the end of the file") from None
    file.write(piece)
    file.flush()


@contextmanager
def _mapped(file: IO[bytes]) -> Iterator[Octets]:
    if file.seek(0, 2) == 0:
        yield b""  # which cannot be mapped
        return
    with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        yield data


def _read_message(data: Octets) -> Iterable[SavedMessage | SavedError]:
    try:
        return [read_saved_message(data)]
    except SavedError as error:
        return [error]


def _read_mbox(data: Octets) -> Iterable[SavedMessage | SavedError]:
    try:
        return read_saved_mbox(data)
    except SavedError as error:
        return [error]


def _messages(
    saved: Iterable[SavedMessage | SavedError], *, lines: list[int], refused: list[SavedError]
) -> Iterator[SavedMessage]:
    """The messages, for the store; notes where each was, and the others."""
    for one in saved:
        if isinstance(one, SavedError):
            refused.append(one)
        else:
            lines.append(one.line)
            yield one


def _answer(lines: list[int], results: list[str | StoreError], refused: list[SavedError]) -> Imported:
    stored = list(zip(lines, results, strict=True))
    answer = Imported(
        messages=[ImportedMessage(id=one, line=line) for line, one in stored if isinstance(one, str)],
        refused=[NotImported(line=one.line, reason=one.reason) for one in refused],
    )
    if errors := [one for one in results if isinstance(one, StoreError)]:
        log.error("web desk: cannot import: %s", errors[0])
        number = len(answer.messages)
        detail = f"The store failed when it had imported {number} of the messages; see the log of gatepost"
        raise Problem(Kind.STORE, detail, **answer.model_dump())
    if not answer.messages:
        raise Problem(
            Kind.WRONG_REQUEST,
            f"Nothing was imported: {refused[0]}",
            errors=[
                WrongValue(where=f"body line {one.line}", found=one.found, expected=one.expected)
                for one in refused[:_ERRORS]
            ],
        )
    return answer


operations = (
    Operation(
        method="POST",
        path="/messages",
        name="importMessages",
        needs=Need.ADMINISTER,
        audit="message.import",
        group="Messages",
        summary="Import a file: one message (.eml), or an mbox",
        description=_DESCRIPTION,
        run=_import,
        files=_FILES,
        answer=Imported,
        links=(
            Link(name="first", to="readMessage", given={"id": "/messages/0/id"}),
            Link(name="its bytes", to="readMessageRaw", given={"id": "/messages/0/id"}),
        ),
        problems={Kind.NO_IMPORT: None, Kind.WRONG_MEDIA_TYPE: None, Kind.STORE: NotStored},
    ),
)
