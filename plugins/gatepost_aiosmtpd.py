"""The filter ``aiosmtpd``: an existing aiosmtpd handler class, unchanged.

The handler's hooks are called as aiosmtpd 1.4.6 calls them, with aiosmtpd's own ``Session`` and ``Envelope``
(https://aiosmtpd.aio-libs.org/en/latest/handlers.html). A 4xx or 5xx reply is a hit with that reply, a 2xx
reply is no opinion. What a handler does beside its reply and Gatepost cannot honour is a failure, so that the
rule's ``on_error`` decides.
"""

import asyncio
import importlib
import inspect
import logging
import re
import socket
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

from aiosmtpd.smtp import MISSING, SMTP, LoginPassword
from aiosmtpd.smtp import Envelope as HandlerEnvelope
from aiosmtpd.smtp import Session as HandlerSession
from gatepost import (
    Action,
    Envelope,
    Recipient,
    Reply,
    Session,
    Transaction,
    Verdict,
    hookimpl,
)

__all__ = ["Aiosmtpd"]

log = logging.getLogger(__name__)

_HONOURED = frozenset(
    ("handle_EHLO", "handle_HELO", "handle_MAIL", "handle_RCPT", "handle_DATA", "handle_exception")
)
_SESSIONS = 10_000
"""Sessions whose objects are remembered; past it those that were used least recently begin anew."""
_REPLY = re.compile(r"([2-5]\d\d)(?:[ -](.*))?", re.ASCII)


class _Server:
    """The first argument of a handler's hooks, in place of an ``aiosmtpd.smtp.SMTP``."""

    def __init__(self, handler: object, loop: asyncio.AbstractEventLoop) -> None:
        self.event_handler = handler
        self.loop = loop

    @cached_property
    def hostname(self) -> str:
        """As in aiosmtpd; to ask for it may take a while, which is up to the handler's thread."""
        return socket.getfqdn()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"server.{name} does not exist where Gatepost runs the handler")


class _Runner:
    """An event loop in a thread of its own: a handler may block, as it may in aiosmtpd's ``Controller``."""

    def __init__(self, handler: object) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = _Server(handler, self.loop)
        self._closing = False
        self._thread = threading.Thread(target=self._run_loop, name="aiosmtpd", daemon=True)
        self._thread.start()

    def _run_loop(self) -> None:
        """Run the loop until `close`, also after a handler has stopped it or one of its tasks has exited."""
        while not self._closing:
            try:
                self.loop.run_forever()
            except BaseException:
                log.exception("a task of the aiosmtpd handler tried to end the process")

    async def run(self, asked: Coroutine[Any, Any, Verdict | None]) -> Verdict | None:
        """Wait for it on the caller's event loop; a cancelled caller cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_contained(asked), self.loop))

    def close(self) -> None:
        """Stop the loop, unless a handler blocks it."""
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(1)
        if not self.loop.is_running():
            self.loop.close()


async def _contained(asked: Coroutine[Any, Any, Verdict | None]) -> Verdict | None:
    """Make a failure of what would end the handler's event loop, and with it all mail under the rule."""
    try:
        return await asked
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"the handler raised {type(error).__name__}: {error}") from error


@dataclass(slots=True)
class _Dialogue:
    """What a handler knows of one session."""

    session: HandlerSession
    envelope: HandlerEnvelope | None = None
    """That of the current transaction."""
    alone: bool = False
    """The rule's ``when`` needs the message, and the hooks are asked for each recipient alone."""
    greeting: Session | None = None
    """For which the handler was asked: under a rule's ``when`` it may be asked again for each recipient."""
    greeting_verdict: Verdict | None = None


@dataclass(kw_only=True, eq=False)
class Aiosmtpd:
    """Runs an aiosmtpd handler class: its 4xx and 5xx replies are hits, all other replies no opinion."""

    handler: str
    """``module:Class``; the module can be imported."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """The keyword arguments of its constructor."""
    decode_data: bool = False
    """``envelope.content`` is text, as with aiosmtpd's ``decode_data``."""
    ignore: frozenset[str] = field(default_factory=frozenset)
    """Hooks of the handler that need not be called, for example ``handle_QUIT``."""

    _handler: Any = field(init=False)
    _dialogues: OrderedDict[str, _Dialogue] = field(default_factory=OrderedDict, init=False)
    _started: _Runner | None = field(default=None, init=False)
    _names_sessions: bool = field(default=False, init=False)
    _ehlo_takes_responses: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        made = _load(self.handler)
        self._check(made)
        self._handler = made(**self.arguments)
        self._check(self._handler)
        self._ehlo_takes_responses = self._parameters_of_ehlo() == 5
        self._names_sessions = self._has("handle_EHLO") or self._has("handle_HELO")
        for hook, needed in (
            ("filter_helo", self._names_sessions),
            ("filter_mail", self._has("handle_MAIL") or self._has("handle_RCPT")),
            ("filter_rcpt", self._has("handle_RCPT")),
        ):
            if not needed:
                setattr(self, hook, None)

    def close(self) -> None:
        """End the handler's event loop."""
        if self._started:
            self._started.close()

    @hookimpl
    async def filter_helo(self, session: Session) -> Verdict | None:
        """Call ``handle_EHLO`` or ``handle_HELO``."""
        return await self._runner.run(self._helo(session))

    @hookimpl
    async def filter_mail(self, session: Session, envelope: Envelope) -> Verdict | None:
        """Call ``handle_MAIL`` with a new envelope."""
        return await self._runner.run(self._mail(session, envelope))

    @hookimpl
    async def filter_rcpt(self, session: Session, envelope: Envelope, recipient: Recipient) -> Verdict | None:
        """Call ``handle_RCPT`` with the envelope of the transaction."""
        return await self._runner.run(self._rcpt(session, envelope, recipient))

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        """Call ``handle_DATA``, or the older ``process_message``."""
        return await self._runner.run(self._data(transaction))

    @property
    def _runner(self) -> _Runner:
        if self._started is None:
            self._started = _Runner(self._handler)
        return self._started

    # On the handler's event loop

    async def _helo(self, session: Session) -> Verdict | None:
        dialogue = self._dialogue(session, greets=True)
        if dialogue.greeting is session:
            return dialogue.greeting_verdict
        dialogue.envelope = envelope = HandlerEnvelope()
        handler_session = dialogue.session
        name = "handle_EHLO" if session.extended else "handle_HELO"
        verdict = None
        if self._has(name):
            arguments: list[object] = [session.helo]
            responses = [f"250-{self._runner.server.hostname}", "250 HELP"]
            if session.extended and self._ehlo_takes_responses:
                arguments.append(list(responses))
            answer = await self._call(name, handler_session, envelope, *arguments)
            if not isinstance(answer, str) and len(arguments) == 2:
                verdict = _verdict_of_responses(answer, responses)
            else:
                verdict = _verdict(name, answer)
        if handler_session.host_name is None:
            handler_session.host_name = session.helo
        dialogue.greeting, dialogue.greeting_verdict = session, verdict
        return verdict

    async def _mail(self, session: Session, envelope: Envelope) -> Verdict | None:
        dialogue = self._dialogue(session)
        address, options = _address(envelope.mail_from), _options(envelope.parameters)
        known = dialogue.envelope
        if envelope.recipients and known and known.mail_from == address and not dialogue.alone:
            return None  # the rule's ``when`` needs the recipient, and this is not the first
        made = dialogue.envelope = HandlerEnvelope()
        dialogue.alone = False
        made.smtp_utf8 = envelope.smtputf8
        if not self._has("handle_MAIL"):
            made.mail_from = address
            made.mail_options.extend(options)
            return None
        verdict = _verdict(
            "handle_MAIL", await self._call("handle_MAIL", dialogue.session, made, address, options)
        )
        if verdict is None and made.mail_from != address:
            raise _cannot("handle_MAIL", "set envelope.mail_from to its argument", made.mail_from)
        if made.rcpt_tos:
            raise _cannot("handle_MAIL", "add no recipients", made.rcpt_tos)
        return verdict

    async def _rcpt(self, session: Session, envelope: Envelope, recipient: Recipient) -> Verdict | None:
        dialogue = self._dialogue(session)
        made = self._envelope(dialogue, envelope)
        dialogue.alone = any(one is recipient for one in envelope.recipients)
        if dialogue.alone:
            made.rcpt_tos = []
        before = list(made.rcpt_tos)
        options = _options(recipient.parameters)
        answer = await self._call("handle_RCPT", dialogue.session, made, recipient.address, options)
        verdict = _verdict("handle_RCPT", answer)
        expected = before if verdict else [*before, recipient.address]
        if made.rcpt_tos != expected or made.mail_from != _address(envelope.mail_from):
            found, made.rcpt_tos = made.rcpt_tos, before
            raise _cannot(
                "handle_RCPT",
                "append its address to envelope.rcpt_tos if it answers 250, and change nothing else",
                found,
            )
        return verdict

    async def _data(self, transaction: Transaction) -> Verdict | None:
        session, content = transaction.session, transaction.message.content
        dialogue = self._dialogue(session)
        known = dialogue.envelope
        made = known if known and dialogue.alone else self._envelope(dialogue, transaction.envelope)
        dialogue.envelope, dialogue.alone = None, False
        if not self._has("handle_DATA") and not self._has("process_message"):
            return None
        given = content.decode("utf-8", "surrogateescape") if self.decode_data else content
        made.content, made.original_content = given, content
        before = (made.mail_from, list(made.rcpt_tos), given)
        if self._has("handle_DATA"):
            answer = await self._call("handle_DATA", dialogue.session, made)
        else:
            arguments = (dialogue.session.peer, made.mail_from, made.rcpt_tos, made.content)
            answer = await _awaited(self._handler.process_message(*arguments))
            answer = MISSING if answer is None else answer
        verdict = _verdict("handle_DATA", answer)
        if verdict is None and (made.mail_from, made.rcpt_tos, made.content) != before:
            raise _cannot("handle_DATA", "leave mail_from, rcpt_tos and content of the envelope as they are")
        return verdict

    async def _call(
        self, name: str, session: HandlerSession, envelope: HandlerEnvelope, *arguments: object
    ) -> object:
        return await _awaited(
            getattr(self._handler, name)(self._runner.server, session, envelope, *arguments)
        )

    def _dialogue(self, session: Session, *, greets: bool = False) -> _Dialogue:
        """The same objects for all commands of a session, with what is known of it now."""
        dialogue = self._dialogues.pop(session.id, None) or _Dialogue(HandlerSession(self._runner.loop))
        self._dialogues[session.id] = dialogue
        if len(self._dialogues) > _SESSIONS:
            self._dialogues.popitem(last=False)
        _update(dialogue.session, session)
        if not greets and (dialogue.session.host_name is None or not self._names_sessions):
            dialogue.session.host_name = session.helo or None
        return dialogue

    def _envelope(self, dialogue: _Dialogue, envelope: Envelope) -> HandlerEnvelope:
        """The transaction's envelope, with the recipients that all rules have accepted so far."""
        made = dialogue.envelope
        if made is None or made.mail_from != _address(envelope.mail_from):
            made = dialogue.envelope = HandlerEnvelope()
            made.mail_from = _address(envelope.mail_from)
            made.mail_options.extend(_options(envelope.parameters))
            made.smtp_utf8 = envelope.smtputf8
        made.rcpt_tos = [recipient.address for recipient in envelope.recipients]
        if not self._has("handle_RCPT"):
            made.rcpt_options = [
                option for recipient in envelope.recipients for option in _options(recipient.parameters)
            ]
        return made

    # At the start

    def _has(self, name: str) -> bool:
        return name not in self.ignore and hasattr(self._handler, name)

    def _check(self, handler: object) -> None:
        """Raises ValueError for a handler with hooks that Gatepost would never call."""
        never_called = [
            name
            for name in dir(handler)
            if name.startswith(("handle_", "auth_", "smtp_"))
            and name not in _HONOURED
            and name not in self.ignore
            and name != "handle_message"  # of aiosmtpd's own class Message
        ]
        if never_called:
            raise ValueError(
                f"{self.handler}: Gatepost never calls {', '.join(never_called)}; "
                f"if the handler does without, write: ignore: [{', '.join(never_called)}]"
            )

    def _parameters_of_ehlo(self) -> int:
        if not self._has("handle_EHLO"):
            return 0
        count = len(inspect.signature(self._handler.handle_EHLO).parameters)
        if count not in (4, 5):
            raise ValueError(f"{self.handler}: handle_EHLO has {count} parameters, expected 4 or 5")
        return count


def _load(path: str) -> Callable[..., object]:
    module, colon, name = path.partition(":")
    if not (colon and module and name):
        raise ValueError(f"handler: {path!r}, expected module:Class")
    try:
        made: object = importlib.import_module(module)
        for part in name.split("."):
            made = getattr(made, part)
    except ModuleNotFoundError as error:
        where = f"it is neither installed in {sys.prefix} nor in a folder of PYTHONPATH"
        raise ValueError(f"handler: {path!r} cannot be imported: {error}: {where}") from error
    except (ImportError, AttributeError) as error:
        raise ValueError(f"handler: {path!r} cannot be imported: {error}") from error
    if not callable(made):
        raise ValueError(f"handler: {path!r} is not a class")  # noqa: TRY004 - a wrong setting
    if isinstance(made, type) and issubclass(made, SMTP):
        raise ValueError(f"handler: {path!r} is an SMTP server class, expected a handler class")  # noqa: TRY004
    return made


def _update(made: HandlerSession, session: Session) -> None:
    peer = (str(session.client), session.client_port)
    made.peer = peer if session.client.version == 4 else (*peer, 0, 0)  # as of a socket
    made.extended_smtp = session.extended
    made.ssl = {"version": session.tls} if session.tls else None
    if session.authenticated is None:
        made.authenticated = made.auth_data = None
    elif not made.authenticated:
        made.authenticated = True
        made.auth_data = LoginPassword(login=session.authenticated.encode(), password=b"")


def _address(mail_from: str) -> str:
    """As aiosmtpd passes it: the null reverse-path with its brackets."""
    return mail_from or "<>"


def _options(parameters: Sequence[str]) -> list[str]:
    """As aiosmtpd passes them: in upper case."""
    return [parameter.upper() for parameter in parameters]


async def _awaited(answer: Any) -> object:
    return await answer if inspect.isawaitable(answer) else answer


def _verdict(hook: str, answer: object) -> Verdict | None:
    """No opinion for 2xx, a hit with the handler's reply for 4xx and 5xx; raises ValueError for others."""
    if answer is MISSING:
        return None
    lines = answer.replace("\r\n", "\n").split("\n") if isinstance(answer, str) else []
    found = [_REPLY.fullmatch(line) for line in lines]
    codes = {one[1] for one in found if one}
    if len(codes) != 1 or None in found or "3" in {code[0] for code in codes}:
        raise ValueError(f"{hook} returned {answer!r}, expected a reply like '250 OK'")
    code = int(codes.pop())
    if code < 300:
        return None
    reply = _reply(code, [one[2] or "" for one in found if one])
    action = Action.REJECT if reply.permanent else Action.DEFER
    return Verdict(reason=f"{hook}: {reply}", action=action, reply=reply)


def _reply(code: int, texts: list[str]) -> Reply:
    try:
        first = Reply.parse(f"{code} {texts[0]}".rstrip())
    except ValueError:  # the class of its enhanced code is not that of the code
        first = Reply(code=code, text=texts[0])
    repeated = f"{first.enhanced} " if first.enhanced else ""
    text = "\n".join((first.text, *(text.removeprefix(repeated) for text in texts[1:])))
    return Reply(code=code, enhanced=first.enhanced, text=text)


def _verdict_of_responses(answer: object, given: list[str]) -> Verdict | None:
    """What handle_EHLO returned as a list of lines: the given ones, or a refusal."""
    if answer == given:
        return None
    if isinstance(answer, list) and answer and all(isinstance(line, str) for line in answer):
        text = "\r\n".join(answer)
        if text[:1] in ("4", "5"):
            return _verdict("handle_EHLO", text)
    raise _cannot("handle_EHLO", "return the responses as they were given, or a refusal", answer)


def _cannot(hook: str, expected: str, found: object = None) -> ValueError:
    shown = "" if found is None else f", found {found!r}"
    return ValueError(f"Gatepost cannot do what {hook} did: it can only {expected}{shown}")
