"""``when``: the condition under which a rule is asked, compiled when the settings are loaded.

Several keys in one mapping: all must hold. Several values of one key: any of them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from gatepost.config.condition_values import (
    AUTH_KEYS,
    AUTH_RESULTS,
    auth_result,
    fits,
    fits_name,
    glob,
    name_globs,
    rule_name,
    score_test,
    sender_pattern,
    signer,
    signers,
    size_test,
)
from gatepost.config.lists import ListedText
from gatepost.config.patterns import (
    AddressPatterns,
    Networks,
    check_address_pattern,
    expected,
    network,
    unknown_key,
)
from gatepost.mime.fields import is_field_name
from gatepost.model.mail import Envelope, Message, Recipient, Session, Stage

__all__ = ["KEYS", "Condition", "Standing"]

_Made = TypeVar("_Made")


class Standing(Protocol):
    """What the rules before this one have found about the message, for one recipient."""

    @property
    def score(self) -> float:
        """The sum of their scores."""

    @property
    def hits(self) -> Collection[str]:
        """The names of those that hit; without those that only observe."""

    @property
    def auth(self) -> Collection[str]:
        """Results of authentication, as ``Verdict.auth`` has them."""


_Test = Callable[[Session, Envelope | None, Recipient | None, Message | None, Standing | None], bool]
_Why = Callable[[Session, Envelope | None, Recipient | None, Message | None, Standing | None], str]


def _no_words(*_: object) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Condition:
    """A compiled ``when``; pydantic makes it from the data of the settings file."""

    known_at: Stage
    """The first stage at which it can be decided."""
    per_recipient: bool
    """True if it looks at the recipient."""
    test: _Test
    weighs: bool = False
    """True if it looks at what earlier rules have found."""
    rules: frozenset[str] = frozenset()
    """The names of the rules that it asks for."""
    words: _Why = _no_words
    """As `why`."""

    def holds(
        self,
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
        message: Message | None = None,
        standing: Standing | None = None,
    ) -> bool:
        """True if the condition holds.

        Raises TypeError if an argument is missing that is known from the stage `known_at` on.
        """
        return self.test(session, envelope, recipient, message, standing)

    def why(
        self,
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
        message: Message | None = None,
        standing: Standing | None = None,
    ) -> str:
        """What of a condition that holds is worth telling: the sum, lists, rules that hit, results.

        For example ``sender in $partners, score 6.5``; empty if there is nothing of that kind.
        """
        return self.words(session, envelope, recipient, message, standing)

    @classmethod
    def parse(cls, value: Any) -> "Condition":
        """Compile the value of ``when``; raises pydantic's ValidationError with the places inside."""
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


def _of_session(
    known_at: Stage, test: Callable[[Session], bool], told: Callable[[Session], str] | None = None
) -> Condition:
    def holds(session: Session, *_: object) -> bool:
        return test(session)

    def words(session: Session, *_: object) -> str:
        return told(session) if told else ""

    return Condition(known_at=known_at, per_recipient=False, test=holds, words=words)


def _of_envelope(test: Callable[[Envelope], bool], told: Callable[[Envelope], str]) -> Condition:
    def holds(_s: Session, envelope: Envelope | None, *_: object) -> bool:
        if envelope is None:
            raise TypeError("this condition is decided at MAIL: it needs the envelope")
        return test(envelope)

    def words(_s: Session, envelope: Envelope | None, *_: object) -> str:
        return told(envelope) if envelope else ""

    return Condition(known_at=Stage.MAIL, per_recipient=False, test=holds, words=words)


def _of_recipient(test: Callable[[Recipient], bool], told: Callable[[Recipient], str]) -> Condition:
    def holds(_s: Session, _e: Envelope | None, recipient: Recipient | None, *_: object) -> bool:
        if recipient is None:
            raise TypeError("this condition is decided for each recipient: it needs the recipient")
        return test(recipient)

    def words(_s: Session, _e: Envelope | None, recipient: Recipient | None, *_: object) -> str:
        return told(recipient) if recipient else ""

    return Condition(known_at=Stage.RCPT, per_recipient=True, test=holds, words=words)


def _of_message(test: Callable[[Message], bool]) -> Condition:
    def holds(
        _s: Session, _e: Envelope | None, _r: Recipient | None, message: Message | None, _: object
    ) -> bool:
        if message is None:
            raise TypeError("this condition is decided with the message: it needs the message")
        return test(message)

    return Condition(known_at=Stage.MESSAGE, per_recipient=False, test=holds)


def _of_standing(
    test: Callable[[Standing], bool], told: Callable[[Standing], str], rules: Iterable[str] = ()
) -> Condition:
    """Of what earlier rules have found: known at the rule's place when the message is decided."""

    def holds(
        _s: Session, _e: Envelope | None, _r: Recipient | None, _m: Message | None, standing: Standing | None
    ) -> bool:
        if standing is None:
            raise TypeError("this condition is decided at the rule's place: it needs what rules have found")
        return test(standing)

    def words(*facts: object) -> str:
        standing = facts[-1]
        return told(standing) if standing else ""  # type: ignore[arg-type]  # the last one is a Standing

    return Condition(
        known_at=Stage.MESSAGE,
        per_recipient=True,
        test=holds,
        weighs=True,
        rules=frozenset(rules),
        words=words,
    )


def _combined(parts: tuple[Condition, ...], test: _Test, words: _Why = _no_words) -> Condition:
    return Condition(
        known_at=max(part.known_at for part in parts),
        per_recipient=any(part.per_recipient for part in parts),
        test=test,
        weighs=any(part.weighs for part in parts),
        rules=frozenset().union(*(part.rules for part in parts)),
        words=words,
    )


def _not(part: Condition) -> Condition:
    return _combined((part,), lambda *facts: not part.test(*facts))


def _any(parts: tuple[Condition, ...]) -> Condition:
    tests = tuple(part.test for part in parts)
    return _combined(
        parts,
        lambda *facts: any(test(*facts) for test in tests),
        lambda *facts: _joined(part.words(*facts) for part in parts if part.test(*facts)),
    )


def _all(parts: tuple[Condition, ...]) -> Condition:
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.test for part in parts)
    return _combined(
        parts,
        lambda *facts: all(test(*facts) for test in tests),
        lambda *facts: _joined(part.words(*facts) for part in parts),
    )


def _joined(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, words)))


def _lists_in(
    value: Any, key: str, has: Callable[[list[Any]], Callable[[Any], bool]]
) -> Callable[[Any], str]:
    """What tells in which lists among the values of a key something is; ``has`` makes a test of entries."""
    values = value if isinstance(value, list | tuple) else [value]
    entries: dict[str, list[Any]] = {}
    for one in values:
        if isinstance(one, ListedText):
            entries.setdefault(one.list_name, []).append(one)
    if not entries:
        return lambda _: ""
    if len(entries) == 1 and len(values) == sum(map(len, entries.values())):
        (name,) = entries
        return lambda _: f"{key} in ${name}"
    tests = [(f"{key} in ${name}", has(those)) for name, those in entries.items()]
    return lambda what: _joined(words for words, test in tests if test(what))


_Location = tuple[str | int, ...]

_NEVER = _of_session(Stage.CONNECT, lambda _: False)
"""A placeholder for a part that could not be compiled."""


class _Compiler:
    """Data -> `Condition`, with every error collected."""

    def __init__(self) -> None:
        self.errors: list[InitErrorDetails] = []

    def mapping(self, value: Any, place: _Location) -> Condition:
        if not isinstance(value, dict) or not value:
            return self._wrong(value, place, expected(f"a mapping of conditions: {', '.join(KEYS)}"))
        return _all(tuple(self._key(key, inside, (*place, key)) for key, inside in value.items()))

    def _key(self, key: Any, value: Any, place: _Location) -> Condition:
        if key not in KEYS:
            return self._wrong(key, place, unknown_key(KEYS))
        return KEYS[key](self, value, place)

    def _wrong(self, value: Any, place: _Location, error: PydanticCustomError) -> Condition:
        self.errors.append(InitErrorDetails(type=error, loc=place, input=value))
        return _NEVER

    def _each(self, value: Any, place: _Location, make: Callable[[Any], _Made]) -> list[_Made]:
        """Compile the values of one key; a single value is a list of one."""
        values = value if isinstance(value, list | tuple) else [value]
        made: list[_Made] = []
        for number, one in enumerate(values):
            try:
                made.append(make(one))
            except PydanticCustomError as error:
                self._wrong(one, (*place, number) if values is value else place, error)
        return made

    def sender(self, value: Any, place: _Location) -> Condition:
        patterns = AddressPatterns(self._each(value, place, sender_pattern))
        lists = _lists_in(value, "sender", lambda some: AddressPatterns(some).matches)
        return _of_envelope(
            lambda envelope: patterns.matches(envelope.mail_from), lambda envelope: lists(envelope.mail_from)
        )

    def recipient(self, value: Any, place: _Location) -> Condition:
        patterns = AddressPatterns(self._each(value, place, check_address_pattern))
        lists = _lists_in(value, "recipient", lambda some: AddressPatterns(some).matches)
        return _of_recipient(
            lambda recipient: patterns.matches(recipient.address), lambda recipient: lists(recipient.address)
        )

    def client(self, value: Any, place: _Location) -> Condition:
        networks = Networks(self._each(value, place, network))
        lists = _lists_in(
            value, "client", lambda some: Networks(self._each(some, place, network)).__contains__
        )
        return _of_session(
            Stage.CONNECT, lambda session: session.client in networks, lambda session: lists(session.client)
        )

    def helo(self, value: Any, place: _Location) -> Condition:
        globs = [one for made in self._each(value, place, name_globs) for one in made]
        return _of_session(Stage.HELO, lambda session: fits_name(globs, session.helo))

    def authenticated(self, value: Any, place: _Location) -> Condition:
        if isinstance(value, bool):
            return _of_session(Stage.MAIL, lambda session: (session.authenticated is not None) is value)
        globs = self._each(value, place, glob)
        return _of_session(
            Stage.MAIL,
            lambda session: session.authenticated is not None and fits(globs, session.authenticated),
        )

    def tls(self, value: Any, place: _Location) -> Condition:
        if not isinstance(value, bool):
            return self._wrong(value, place, expected("true or false"))
        return _of_session(Stage.MAIL, lambda session: (session.tls is not None) is value)

    def early_talker(self, value: Any, place: _Location) -> Condition:
        if not isinstance(value, bool):
            return self._wrong(value, place, expected("true or false"))
        return _of_session(Stage.HELO, lambda session: session.early_talker is value)

    def header(self, value: Any, place: _Location) -> Condition:
        if not isinstance(value, dict) or not value:
            return self._wrong(value, place, expected("a mapping of field names, like {X-Mailer: '*bulk*'}"))
        return _all(tuple(self._field(name, inside, (*place, name)) for name, inside in value.items()))

    def _field(self, name: Any, value: Any, place: _Location) -> Condition:
        if not isinstance(name, str) or not is_field_name(name):
            return self._wrong(name, (*place, "[key]"), expected("a header field's name"))
        wanted = name.lower()
        if isinstance(value, bool):
            return _of_message(lambda message: (message.view.header(wanted) is not None) is value)
        globs = self._each(value, place, glob)
        return _of_message(
            lambda message: any(
                fits(globs, field.value) for field in message.view.headers if field.name.lower() == wanted
            )
        )

    def size(self, value: Any, place: _Location) -> Condition:
        tests = self._each(value, place, size_test)
        return _of_message(lambda message: any(test(len(message.content)) for test in tests))

    def score(self, value: Any, place: _Location) -> Condition:
        tests = self._each(value, place, score_test)
        return _of_standing(
            lambda standing: any(test(standing.score) for test in tests),
            lambda standing: f"score {standing.score:g}",
        )

    def hit(self, value: Any, place: _Location) -> Condition:
        names = self._each(value, place, rule_name)
        return _of_standing(
            lambda standing: any(name in standing.hits for name in names),
            lambda standing: _joined(f"hit {name}" for name in names if name in standing.hits),
            names,
        )

    def auth(self, value: Any, place: _Location) -> Condition:
        if not isinstance(value, dict) or not value:
            return self._wrong(value, place, expected("a mapping of methods, like {spf: [fail, softfail]}"))
        return _all(tuple(self._method(method, inside, (*place, method)) for method, inside in value.items()))

    def _method(self, method: Any, value: Any, place: _Location) -> Condition:
        if method == "signed_by":
            domains = self._each(value, place, signer)
            return _of_standing(
                lambda standing: bool(signers(domains, standing.auth)),
                lambda standing: _joined(signers(domains, standing.auth)),
            )
        if method not in AUTH_RESULTS:
            return self._wrong(method, place, unknown_key(AUTH_KEYS))
        wanted = self._each(value, place, lambda result: auth_result(method, result))
        return _of_standing(
            lambda standing: any(one in standing.auth for one in wanted),
            lambda standing: _joined(one for one in wanted if one in standing.auth),
        )

    def not_(self, value: Any, place: _Location) -> Condition:
        return _not(self.mapping(value, place))

    def any_(self, value: Any, place: _Location) -> Condition:
        return _any(self._mappings(value, place))

    def all_(self, value: Any, place: _Location) -> Condition:
        return _all(self._mappings(value, place))

    def _mappings(self, value: Any, place: _Location) -> tuple[Condition, ...]:
        if not isinstance(value, list | tuple) or not value:
            return (self._wrong(value, place, expected("a list of conditions")),)
        return tuple(self.mapping(one, (*place, number)) for number, one in enumerate(value))


KEYS: Mapping[str, Callable[[_Compiler, Any, _Location], Condition]] = {
    "sender": _Compiler.sender,
    "recipient": _Compiler.recipient,
    "client": _Compiler.client,
    "helo": _Compiler.helo,
    "authenticated": _Compiler.authenticated,
    "tls": _Compiler.tls,
    "early_talker": _Compiler.early_talker,
    "header": _Compiler.header,
    "size": _Compiler.size,
    "score": _Compiler.score,
    "hit": _Compiler.hit,
    "auth": _Compiler.auth,
    "not": _Compiler.not_,
    "any": _Compiler.any_,
    "all": _Compiler.all_,
}
"""The keys that ``when`` may have."""
