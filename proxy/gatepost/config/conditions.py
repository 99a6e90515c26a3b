"""``when``: whom a rule is for, compiled when the settings are loaded.

Several keys in one mapping: all must hold. Several values of one key: any of them.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from gatepost.addresses import domain_readings
from gatepost.config.patterns import (
    AddressPatterns,
    Glob,
    Networks,
    check_address_pattern,
    expected,
    network,
    unknown_key,
)
from gatepost.config.units import octets
from gatepost.mail import Envelope, Message, Recipient, Session, Stage

__all__ = ["KEYS", "Condition"]

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_COMPARISON = re.compile(r"(>=|<=|>|<)\s*(.+)")
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_Made = TypeVar("_Made")
_Test = Callable[[Session, Envelope | None, Recipient | None, Message | None], bool]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Condition:
    """A compiled ``when``; pydantic makes it from the data of the settings file."""

    known_at: Stage
    """The first stage at which it can be decided."""
    per_recipient: bool
    """True if it looks at the recipient."""
    test: _Test

    def holds(
        self,
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
        message: Message | None = None,
    ) -> bool:
        """True if the rule is for this one.

        Raises TypeError where something is missing that is known from the stage `known_at` on.
        """
        return self.test(session, envelope, recipient, message)

    @classmethod
    def parse(cls, value: Any) -> "Condition":
        """Compile what stands under ``when``; raises pydantic's ValidationError with the places inside."""
        if isinstance(value, Condition):
            return value
        compiler = _Compiler()
        condition = compiler.mapping(value, ())
        if compiler.errors:
            raise ValidationError.from_exception_data("when", compiler.errors)
        return condition

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic take it as the type of a field."""
        return core_schema.no_info_plain_validator_function(cls.parse)


def _of_session(known_at: Stage, test: Callable[[Session], bool]) -> Condition:
    def holds(session: Session, _e: Envelope | None, _r: Recipient | None, _m: Message | None) -> bool:
        return test(session)

    return Condition(known_at=known_at, per_recipient=False, test=holds)


def _of_envelope(test: Callable[[Envelope], bool]) -> Condition:
    def holds(_s: Session, envelope: Envelope | None, _r: Recipient | None, _m: Message | None) -> bool:
        if envelope is None:
            raise TypeError("this condition is decided at MAIL: it needs the envelope")
        return test(envelope)

    return Condition(known_at=Stage.MAIL, per_recipient=False, test=holds)


def _of_recipient(test: Callable[[Recipient], bool]) -> Condition:
    def holds(_s: Session, _e: Envelope | None, recipient: Recipient | None, _m: Message | None) -> bool:
        if recipient is None:
            raise TypeError("this condition is decided for each recipient: it needs the recipient")
        return test(recipient)

    return Condition(known_at=Stage.RCPT, per_recipient=True, test=holds)


def _of_message(test: Callable[[Message], bool]) -> Condition:
    def holds(_s: Session, _e: Envelope | None, _r: Recipient | None, message: Message | None) -> bool:
        if message is None:
            raise TypeError("this condition is decided with the message: it needs the message")
        return test(message)

    return Condition(known_at=Stage.MESSAGE, per_recipient=False, test=holds)


def _combined(parts: tuple[Condition, ...], test: _Test) -> Condition:
    return Condition(
        known_at=max(part.known_at for part in parts),
        per_recipient=any(part.per_recipient for part in parts),
        test=test,
    )


def _not(part: Condition) -> Condition:
    return _combined((part,), lambda *facts: not part.test(*facts))


def _any(parts: tuple[Condition, ...]) -> Condition:
    tests = tuple(part.test for part in parts)
    return _combined(parts, lambda *facts: any(test(*facts) for test in tests))


def _all(parts: tuple[Condition, ...]) -> Condition:
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.test for part in parts)
    return _combined(parts, lambda *facts: all(test(*facts) for test in tests))


_Place = tuple[str | int, ...]

_NEVER = _of_session(Stage.CONNECT, lambda _: False)
"""Stands for what could not be compiled."""


class _Compiler:
    """Data -> `Condition`, with every error collected."""

    def __init__(self) -> None:
        self.errors: list[InitErrorDetails] = []

    def mapping(self, value: Any, place: _Place) -> Condition:
        if not isinstance(value, dict) or not value:
            return self._wrong(value, place, expected(f"a mapping of conditions: {', '.join(KEYS)}"))
        return _all(tuple(self._key(key, inside, (*place, key)) for key, inside in value.items()))

    def _key(self, key: Any, value: Any, place: _Place) -> Condition:
        if key not in KEYS:
            return self._wrong(key, place, unknown_key(KEYS))
        return KEYS[key](self, value, place)

    def _wrong(self, value: Any, place: _Place, error: PydanticCustomError) -> Condition:
        self.errors.append(InitErrorDetails(type=error, loc=place, input=value))
        return _NEVER

    def _each(self, value: Any, place: _Place, make: Callable[[Any], _Made]) -> list[_Made]:
        """What the values of one key make; a value alone is a list of one."""
        values = value if isinstance(value, list | tuple) else [value]
        made: list[_Made] = []
        for number, one in enumerate(values):
            try:
                made.append(make(one))
            except PydanticCustomError as error:
                self._wrong(one, (*place, number) if values is value else place, error)
        return made

    def sender(self, value: Any, place: _Place) -> Condition:
        patterns = AddressPatterns(self._each(value, place, _sender_pattern))
        return _of_envelope(lambda envelope: patterns.matches(envelope.mail_from))

    def recipient(self, value: Any, place: _Place) -> Condition:
        patterns = AddressPatterns(self._each(value, place, check_address_pattern))
        return _of_recipient(lambda recipient: patterns.matches(recipient.address))

    def client(self, value: Any, place: _Place) -> Condition:
        networks = Networks(self._each(value, place, network))
        return _of_session(Stage.CONNECT, lambda session: session.client in networks)

    def helo(self, value: Any, place: _Place) -> Condition:
        globs = [glob for made in self._each(value, place, _name_globs) for glob in made]
        return _of_session(Stage.HELO, lambda session: _fits_name(globs, session.helo))

    def authenticated(self, value: Any, place: _Place) -> Condition:
        if isinstance(value, bool):
            return _of_session(Stage.MAIL, lambda session: (session.authenticated is not None) is value)
        globs = self._each(value, place, _glob)
        return _of_session(
            Stage.MAIL,
            lambda session: session.authenticated is not None and _fits(globs, session.authenticated),
        )

    def tls(self, value: Any, place: _Place) -> Condition:
        if not isinstance(value, bool):
            return self._wrong(value, place, expected("true or false"))
        return _of_session(Stage.MAIL, lambda session: (session.tls is not None) is value)

    def header(self, value: Any, place: _Place) -> Condition:
        if not isinstance(value, dict) or not value:
            return self._wrong(value, place, expected("a mapping of field names, like {X-Mailer: '*bulk*'}"))
        return _all(tuple(self._field(name, inside, (*place, name)) for name, inside in value.items()))

    def _field(self, name: Any, value: Any, place: _Place) -> Condition:
        if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
            return self._wrong(name, (*place, "[key]"), expected("a header field's name"))
        wanted = name.lower()
        if isinstance(value, bool):
            return _of_message(lambda message: (message.view.header(wanted) is not None) is value)
        globs = self._each(value, place, _glob)
        return _of_message(
            lambda message: any(
                _fits(globs, field.value) for field in message.view.headers if field.name.lower() == wanted
            )
        )

    def size(self, value: Any, place: _Place) -> Condition:
        tests = self._each(value, place, _size_test)
        return _of_message(lambda message: any(test(len(message.content)) for test in tests))

    def not_(self, value: Any, place: _Place) -> Condition:
        return _not(self.mapping(value, place))

    def any_(self, value: Any, place: _Place) -> Condition:
        return _any(self._mappings(value, place))

    def all_(self, value: Any, place: _Place) -> Condition:
        return _all(self._mappings(value, place))

    def _mappings(self, value: Any, place: _Place) -> tuple[Condition, ...]:
        if not isinstance(value, list | tuple) or not value:
            return (self._wrong(value, place, expected("a list of conditions")),)
        return tuple(self.mapping(one, (*place, number)) for number, one in enumerate(value))


KEYS: Mapping[str, Callable[[_Compiler, Any, _Place], Condition]] = {
    "sender": _Compiler.sender,
    "recipient": _Compiler.recipient,
    "client": _Compiler.client,
    "helo": _Compiler.helo,
    "authenticated": _Compiler.authenticated,
    "tls": _Compiler.tls,
    "header": _Compiler.header,
    "size": _Compiler.size,
    "not": _Compiler.not_,
    "any": _Compiler.any_,
    "all": _Compiler.all_,
}
"""The keys that ``when`` may have."""


def _sender_pattern(value: Any) -> str:
    return "" if value in ("", "<>") else check_address_pattern(value)


def _glob(value: Any) -> Glob:
    if not isinstance(value, str):
        raise expected("text with * for any characters")
    return Glob.of(value)


def _name_globs(value: Any) -> list[Glob]:
    """A pattern over domain names, in each of its readings."""
    if not isinstance(value, str):
        raise expected("text with * for any characters")
    return [Glob.of_folded(reading) for reading in domain_readings(value)]


def _fits_name(globs: list[Glob], name: str) -> bool:
    readings = domain_readings(name)
    return any(glob.matches_lower(reading) for glob in globs for reading in readings)


def _fits(globs: list[Glob], text: str) -> bool:
    lower = text.lower()
    return any(glob.matches_lower(lower) for glob in globs)


def _size_test(value: Any) -> Callable[[int], bool]:
    found = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise expected("a comparison like '>10MiB' or '<1KB'")
    compare = _COMPARE[found[1]]
    bound = octets(found[2])
    return lambda size: compare(size, bound)
