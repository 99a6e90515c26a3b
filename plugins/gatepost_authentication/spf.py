"""The Sender Policy Framework (RFC 7208): whether a client may send mail of a domain.

Every question to DNS is awaited, so that a check needs no thread.
"""

import ipaddress
import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gatepost import Answer, Resolver

from gatepost_authentication.signed import is_within

__all__ = ["Spf", "check_host"]

Client = ipaddress.IPv4Address | ipaddress.IPv6Address

_TERMS_LIMIT = 10
"""Terms that ask DNS, in one check (section 4.6.4)."""
_VOID_LIMIT = 2
"""Questions to DNS that find no record, in one check (section 4.6.4)."""
_RECORD_BYTES = 4096
"""A longer record does not fit into a packet, and need not be evaluated (section 3.4)."""
_NAME_BYTES = 253
_NAMES_LIMIT = 10
"""Of MX and PTR records (section 4.6.4)."""
_RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_RECORD = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_MACRO = r"%\{[slodipvhcrt](?:[0-9]+)?r?[-.+,/_=]*\}|%%|%_|%-"
_MACRO_STRING = re.compile(rf"(?:{_MACRO}|[!-$&-~])*", re.IGNORECASE)
_EXPLANATION = re.compile(rf"(?:{_MACRO}|[ -$&-~])*", re.IGNORECASE)
_ONLY_EXPLAINING = re.compile(r"(?<!%)(?:%%)*%\{[crt]", re.IGNORECASE)
_EXPAND = re.compile(r"%(?:\{([slodipvhcrt])([0-9]*)(r?)([-.+,/_=]*)\}|([%_-]))", re.IGNORECASE)
_DOMAIN_END = re.compile(
    rf"(?:{_MACRO})$|\.(?=[a-z0-9-]*[a-z-])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?$", re.IGNORECASE
)
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)", re.IGNORECASE)
_MECHANISM = re.compile(r"([-+~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?:(?=[/:])(.*))?", re.IGNORECASE)
_CIDR = re.compile(r"(.*?)(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?", re.DOTALL)
_LABEL = re.compile(r"[^.\x00-\x1f\x7f]{1,63}")
_ESCAPED = {"%": "%", "_": " ", "-": "%20"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spf:
    """The result of a check."""

    result: str
    """``pass``, ``fail``, ``softfail``, ``neutral``, ``none``, ``temperror`` or ``permerror``."""
    domain: str
    """The domain that was asked about."""
    reason: str = ""
    """The mechanism that matched, or what is wrong, for a person."""
    explanation: str = ""
    """With ``fail`` the domain's own explanation in ASCII, if it has one. Untrusted."""


class _TemporaryError(Exception):
    """DNS does not answer now."""


class _PermanentError(Exception):
    """The record cannot be evaluated; the text says why."""


@dataclass(frozen=True, slots=True)
class _Mechanism:
    result: str
    name: str
    target: str
    """The domain-spec, or the network of ``ip4`` and ``ip6``; empty for the current domain."""
    bits: tuple[int, int]
    """The prefix lengths for IPv4 and IPv6."""
    text: str


@dataclass(frozen=True, slots=True)
class _Record:
    mechanisms: Sequence[_Mechanism]
    redirect: str | None
    explanation: str | None


async def check_host(
    resolver: Resolver, client: Client, domain: str, sender: str, helo: str, *, receiver: str = "unknown"
) -> Spf:
    """The result for one identity (section 4.1).

    ``sender`` is the reverse-path, or for the null reverse-path and a check of HELO ``postmaster@`` and the
    HELO name. ``receiver`` is this server's name, for explanations.
    """
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped:
        client = client.ipv4_mapped
    local, _, sender_domain = sender.rpartition("@")
    check = _Check(resolver, client, f"{local or 'postmaster'}@{sender_domain}", helo, receiver)
    try:
        result, reason, explanation = await check.host(domain)
    except _TemporaryError as error:
        return Spf(result="temperror", domain=domain, reason=str(error))
    except _PermanentError as error:
        return Spf(result="permerror", domain=domain, reason=str(error))
    return Spf(result=result, domain=domain, reason=reason, explanation=explanation)


class _Check:
    """One check with its counts."""

    def __init__(self, resolver: Resolver, client: Client, sender: str, helo: str, receiver: str) -> None:
        self._resolver = resolver
        self._client = client
        self._sender = sender
        self._helo = helo
        self._receiver = receiver
        self._terms = 0
        self._voids = 0
        self._own_name: dict[str, str] = {}

    async def host(self, domain: str, *, explain: bool = True) -> tuple[str, str, str]:
        """The result, the mechanism that led to it, and the explanation; raises for an error."""
        if not _is_domain(domain):
            return "none", "not a domain", ""
        record = await self._record(domain)
        if record is None:
            return "none", "no record", ""
        for mechanism in record.mechanisms:
            if await self._matches(mechanism, domain):
                text = ""
                if mechanism.result == "fail" and explain and record.explanation is not None:
                    text = await self._explain(record.explanation, domain)
                return mechanism.result, mechanism.text, text
        if record.redirect is None:
            return "neutral", "no mechanism matches", ""
        self._count_term()
        target = await self._target(record.redirect, domain)
        result = await self.host(target, explain=explain)
        if result[0] == "none":
            raise _PermanentError(f"redirect={target}: {result[1]}")
        return result

    async def _record(self, domain: str) -> _Record | None:
        answer = await self._ask(domain, "TXT")
        found = [text for octets in answer.records if _RECORD.match(text := octets.decode("latin-1"))]
        if not found:
            return None
        if len(found) > 1:
            raise _PermanentError(f"{domain} has several records")
        if len(found[0]) > _RECORD_BYTES:
            raise _PermanentError(f"{domain}: the record has more than {_RECORD_BYTES} bytes")
        return _parse(found[0])

    async def _ask(self, name: str, kind: str) -> Answer:
        answer = await self._resolver.look_up(name.removesuffix("."), kind)
        if answer.status.is_temporary:
            raise _TemporaryError(f"{name} {kind}: {answer.status}")
        return answer

    async def _ask_counted(self, name: str, kind: str) -> Answer:
        answer = await self._ask(name, kind)
        if not answer.records:
            self._voids += 1
            if self._voids > _VOID_LIMIT:
                raise _PermanentError(f"more than {_VOID_LIMIT} questions to DNS without an answer")
        return answer

    def _count_term(self) -> None:
        self._terms += 1
        if self._terms > _TERMS_LIMIT:
            raise _PermanentError(f"more than {_TERMS_LIMIT} terms that ask DNS")

    async def _matches(self, mechanism: _Mechanism, domain: str) -> bool:
        name = mechanism.name
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            return self._is_in(mechanism.target, mechanism.bits)
        self._count_term()
        target = await self._target(mechanism.target, domain) if mechanism.target else domain
        if name == "include":
            result, reason, _ = await self.host(target, explain=False)
            if result == "none":
                raise _PermanentError(f"include:{target}: {reason}")
            return result == "pass"
        if name == "exists":
            return bool((await self._ask_counted(target, "A")).records) if _is_name(target) else False
        if name == "ptr":
            names = await self._validated_names(counted=True)
            return any(is_within(one, target.lower().removesuffix(".")) for one in names)
        if not _is_name(target):
            return False
        if name == "a":
            return self._any_in(await self._ask_counted(target, self._address_kind), mechanism.bits)
        exchanges = (await self._ask_counted(target, "MX")).records
        if len(exchanges) > _NAMES_LIMIT:
            raise _PermanentError(f"{target} has more than {_NAMES_LIMIT} MX records")
        for _, exchange in exchanges:
            if _is_name(exchange):
                answer = await self._ask(exchange, self._address_kind)
                if self._any_in(answer, mechanism.bits):
                    return True
        return False

    @property
    def _address_kind(self) -> str:
        return "A" if self._client.version == 4 else "AAAA"

    def _any_in(self, answer: Answer, bits: tuple[int, int]) -> bool:
        return any(self._is_in(address, bits) for address in answer.records)

    def _is_in(self, address: str, bits: tuple[int, int]) -> bool:
        if ipaddress.ip_address(address).version != self._client.version:
            return False
        length = bits[0] if self._client.version == 4 else bits[1]
        return self._client in ipaddress.ip_network((address, length), strict=False)

    async def _validated_names(self, *, counted: bool) -> list[str]:
        """The names of the client whose addresses include it (section 5.5)."""
        ask: Callable[[str, str], Awaitable[Answer]] = self._ask_counted if counted else self._ask
        try:
            names = (await ask(self._client.reverse_pointer, "PTR")).records
        except _TemporaryError:
            return []
        found = []
        for name in names[:_NAMES_LIMIT]:
            try:
                addresses = (await self._ask(name, self._address_kind)).records
            except _TemporaryError:
                continue
            if any(ipaddress.ip_address(address) == self._client for address in addresses):
                found.append(name.lower().removesuffix("."))
        return found

    async def _target(self, spec: str, domain: str) -> str:
        """The domain name that a domain-spec means (section 7.3)."""
        name = await self._expand(spec, domain)
        if len(name) > _NAME_BYTES:
            _, dot, end = name[-_NAME_BYTES - 1 :].partition(".")
            return end if dot else name.rpartition(".")[2]
        return name

    async def _explain(self, spec: str, domain: str) -> str:
        """The text that ``exp=`` refers to; empty without exactly one record in ASCII."""
        try:
            target = await self._target(spec, domain)
            records = (await self._ask(target, "TXT")).records if _is_name(target) else ()
            text = records[0].decode("ascii") if len(records) == 1 else ""
            if not _EXPLANATION.fullmatch(text):
                return ""
            return await self._expand(text, domain)
        except (_TemporaryError, _PermanentError, UnicodeDecodeError):
            return ""

    async def _expand(self, text: str, domain: str) -> str:
        parts, end = [], 0
        for found in _EXPAND.finditer(text):
            parts.append(text[end : found.start()])
            end = found.end()
            letter, digits, reverse, delimiters, escaped = found.groups()
            if escaped:
                parts.append(_ESCAPED[escaped])
                continue
            value = await self._macro(letter.lower(), domain)
            labels = re.split(f"[{re.escape(delimiters or '.')}]", value)
            if reverse:
                labels.reverse()
            if digits:
                if int(digits[:4]) == 0:
                    raise _PermanentError(f"invalid macro {found[0]}")
                labels = labels[-int(digits[:4]) :]
            value = ".".join(labels)
            parts.append(urllib.parse.quote(value, safe="-._~") if letter.isupper() else value)
        return "".join([*parts, text[end:]])

    async def _macro(self, letter: str, domain: str) -> str:
        local, _, sender_domain = self._sender.rpartition("@")
        address = self._client
        nibbles = ".".join(address.exploded.replace(":", "").upper())
        if letter == "p":
            return await self._name(domain)
        return {
            "s": self._sender,
            "l": local,
            "o": sender_domain,
            "d": domain,
            "i": str(address) if address.version == 4 else nibbles,
            "v": "in-addr" if address.version == 4 else "ip6",
            "h": self._helo,
            "c": str(address),
            "r": self._receiver,
            "t": str(int(time.time())),
        }[letter]

    async def _name(self, domain: str) -> str:
        if domain not in self._own_name:
            names = await self._validated_names(counted=False)
            within = [one for one in names if one.endswith(f".{domain.lower()}")]
            exact = [one for one in names if one == domain.lower()]
            self._own_name[domain] = next(iter([*exact, *within, *names]), "unknown")
        return self._own_name[domain]


def _parse(text: str) -> _Record:
    """The terms of a record; raises `_PermanentError`."""
    mechanisms: list[_Mechanism] = []
    modifiers: dict[str, str] = {}
    for term in text.split(" ")[1:]:
        if not term:
            continue
        if found := _MECHANISM.fullmatch(term):
            mechanisms.append(_parse_mechanism(*found.groups(default=""), term))
        elif found := _MODIFIER.fullmatch(term):
            name, value = found[1].lower(), found[2]
            if not _MACRO_STRING.fullmatch(value):
                raise _PermanentError(f"invalid term {term[:60]!r}")
            if name in ("redirect", "exp"):
                if name in modifiers:
                    raise _PermanentError(f"{name}= is there twice")
                _check_spec(value, term)
                modifiers[name] = value
        else:
            raise _PermanentError(f"invalid term {term[:60]!r}")
    return _Record(mechanisms, modifiers.get("redirect"), modifiers.get("exp"))


def _parse_mechanism(qualifier: str, name: str, rest: str, term: str) -> _Mechanism:
    result, name = _RESULTS[qualifier or "+"], name.lower()
    bad = _PermanentError(f"invalid term {term[:60]!r}")
    if name in ("ip4", "ip6"):
        return _Mechanism(result, name, *_parse_network(name, rest, bad), term)
    bits, target = (32, 128), rest
    if name in ("a", "mx"):
        found = _CIDR.fullmatch(rest)
        if not found:
            raise bad
        target = found[1]
        bits = (int(found[2] or 32), int(found[3] or 128))
        if bits[0] > 32 or bits[1] > 128:
            raise bad
    if target.startswith(":"):
        target = target[1:]
        _check_spec(target, term)
    elif target or name in ("include", "exists"):
        raise bad
    if name == "all" and rest:
        raise bad
    return _Mechanism(result, name, target, bits, term)


def _parse_network(name: str, rest: str, bad: Exception) -> tuple[str, tuple[int, int]]:
    address, slash, length = rest.removeprefix(":").partition("/")
    most = 32 if name == "ip4" else 128
    if not rest.startswith(":") or (slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", length, re.ASCII)):
        raise bad
    bits = int(length) if slash else most
    try:
        kind = ipaddress.IPv4Address if name == "ip4" else ipaddress.IPv6Address
        network = str(kind(address))
    except ValueError:
        raise bad from None
    if bits > most or "%" in address:
        raise bad
    return network, (bits, bits)


def _check_spec(spec: str, term: str) -> None:
    if not _MACRO_STRING.fullmatch(spec) or not _DOMAIN_END.search(spec):
        raise _PermanentError(f"invalid term {term[:60]!r}")
    if _ONLY_EXPLAINING.search(spec):
        raise _PermanentError(f"the macros c, r and t are only for explanations: {term[:60]!r}")


def _is_domain(domain: str) -> bool:
    """True for a name of at least two labels (section 4.3)."""
    name = domain.removesuffix(".")
    return _is_name(domain) and "." in name and not domain.startswith("[")


def _is_name(name: str) -> bool:
    """True if DNS can be asked about it."""
    name = name.removesuffix(".")
    return len(name) <= _NAME_BYTES and all(_LABEL.fullmatch(label) for label in name.split("."))
