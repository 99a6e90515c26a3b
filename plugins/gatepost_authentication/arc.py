"""The Authenticated Received Chain (RFC 8617): its sets are read and validated."""

import asyncio
import re
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatepost import Resolver

from gatepost_authentication.canonical import Field, Fields
from gatepost_authentication.dkim import (
    LATE,
    SignatureError,
    parse_algorithm,
    usable_key,
    verify_headers,
)
from gatepost_authentication.signed import Body, aside, domain_key, names_of, sign_input, signs_from
from gatepost_authentication.tags import TagListError, decode_base64, parse_tags

__all__ = ["SETS_LIMIT", "ArcSet", "Chain", "read_sets", "seal_input", "validate"]

SETS_LIMIT = 50
"""RFC 8617 section 4.2.1."""
_KINDS = ("arc-authentication-results", "arc-message-signature", "arc-seal")
_INSTANCE = re.compile(r"\s*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,2})[ \t\r\n]*(?:;|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ArcSet:
    """The three fields of one instance, with the tags of the two signatures."""

    results: Field
    signature: Field
    seal: Field
    signature_tags: Mapping[str, str]
    seal_tags: Mapping[str, str]

    @property
    def size(self) -> int:
        """How many bytes the values of its fields have."""
        return len(self.results.value) + len(self.signature.value) + len(self.seal.value)

    @property
    def sealer(self) -> str:
        """The domain of the seal, in lower-case A-labels; empty if it is invalid."""
        return domain_key(self.seal_tags.get("d", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The result for the chain of a message."""

    result: str
    """``none``, ``pass``, ``fail`` or ``temperror``."""
    reason: str = ""
    """Why it does not pass, as text for a person."""
    sealers: tuple[str, ...] = ()
    """The domains of the seals, the oldest first; empty if it fails."""
    results: tuple[str, ...] = ()
    """The values of their ARC-Authentication-Results fields."""
    signs_from: bool = False
    """True if the latest signature covers every From field, so that no author was added later."""


async def validate(fields: Fields, body: Body, resolver: Resolver, *, seconds: float) -> Chain:
    """Validate the chain of a message (RFC 8617 section 5.2), within so many seconds.

    A question that DNS does not answer leads to ``temperror``. The RFC has no such result and says ``fail``.
    """
    result, reason = "pass", ""
    try:
        sets = read_sets(fields)
        if not sets:
            return Chain(result="none")
        _check(sets)
        latest = sets[-1]
        work = [_verify_seal(sets[: number + 1], body, resolver) for number in range(len(sets))]
        await _all(seconds, _verify_signature(latest, fields, body, resolver), *work)
    except TagListError as error:
        return Chain(result="fail", reason=str(error))
    except SignatureError as error:
        if error.result != "temperror":
            return Chain(result="fail", reason=str(error))
        result, reason = error.result, str(error)
    return Chain(
        result=result,
        reason=reason,
        sealers=tuple(one.sealer for one in sets),
        results=tuple(one.results.text for one in sets),
        signs_from=signs_from(fields, names_of(latest.signature_tags)),
    )


async def _all(seconds: float, *work: Coroutine[Any, Any, None]) -> None:
    """Wait for all; raise the first error, preferably one that is not ``temperror``."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, late = await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
    errors = [error for task in tasks if task in done and (error := task.exception())]
    errors += [SignatureError("temperror", LATE) for _ in late]
    errors.sort(key=lambda error: getattr(error, "result", "") == "temperror")
    if errors:
        raise errors[0]


def read_sets(fields: Fields) -> tuple[ArcSet, ...]:
    """The sets of a message, the oldest first; raises `TagListError` if a set is incomplete."""
    found: dict[str, dict[int, Field]] = {kind: {} for kind in _KINDS}
    for kind in _KINDS:
        for field in fields.get(kind, ()):
            number = _instance(field)
            if number in found[kind]:
                raise TagListError(f"there are two {kind} fields with i={number}")
            found[kind][number] = field
    numbers = sorted(set().union(*found.values()))
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) > SETS_LIMIT:
        raise TagListError("its instances are not 1, 2, 3 and so on")
    if any(len(one) != len(numbers) for one in found.values()):
        raise TagListError("a set has not all of its three fields")
    results, signatures, seals = (found[kind] for kind in _KINDS)
    return tuple(
        ArcSet(
            results[number],
            signatures[number],
            seals[number],
            parse_tags(signatures[number].text),
            parse_tags(seals[number].text),
        )
        for number in numbers
    )


def _instance(field: Field) -> int:
    if field.key == _KINDS[0]:
        match = _INSTANCE.match(field.text)
        number = match[1] if match else ""
    else:
        number = parse_tags(field.text).get("i", "")
    if not re.fullmatch(r"[0-9]{1,2}", number, re.ASCII) or not 1 <= int(number) <= SETS_LIMIT:
        raise TagListError(f"{field.key} has no valid instance")
    return int(number)


def _check(sets: Sequence[ArcSet]) -> None:
    """Raise `TagListError` for what is wrong whatever the keys are."""
    for number, one in enumerate(sets, 1):
        for name in ("a", "b", "d", "s", "cv"):
            if not one.seal_tags.get(name):
                raise TagListError(f"the seal {number} has no tag {name}")
        if "h" in one.seal_tags:
            raise TagListError(f"the seal {number} has a tag h")
        expected = "none" if number == 1 else "pass"
        if one.seal_tags["cv"].lower() != expected:
            raise TagListError(f"the seal {number} says cv={one.seal_tags['cv'][:10]}")
        for name in ("a", "b", "bh", "d", "s"):
            if not one.signature_tags.get(name):
                raise TagListError(f"the signature {number} has no tag {name}")
        if "h" not in one.signature_tags:
            raise TagListError(f"the signature {number} has no tag h")
        if "arc-seal" in names_of(one.signature_tags):
            raise TagListError(f"the signature {number} signs a seal")


async def _verify_signature(one: ArcSet, fields: Fields, body: Body, resolver: Resolver) -> None:
    whole, _ = await verify_headers(
        one.signature_tags, one.signature, fields, body, resolver, default="relaxed/relaxed"
    )
    if not whole:
        raise SignatureError("fail", "the latest signature leaves the end of the body unsigned")


async def _verify_seal(sets: Sequence[ArcSet], body: Body, resolver: Resolver) -> None:
    own = sets[-1]
    signature = decode_base64(own.seal_tags["b"])
    key = await usable_key(own.seal_tags, parse_algorithm(own.seal_tags), resolver)
    size = len(sets) * sum(one.size for one in sets)  # the whole chain's work grows with the square
    async with body.turn:
        verifies = await aside(
            size, lambda: key.verifies(signature, seal_input(sets[:-1], own.results, own.signature, own.seal))
        )
    if not verifies:
        raise SignatureError("fail", f"the seal {len(sets)} does not verify")


def seal_input(sets: Sequence[ArcSet], results: Field, signature: Field, seal: Field) -> bytes:
    """The bytes that a seal signs (RFC 8617 section 5.1.1): all sets before it, and its own."""
    covered = [field for one in sets for field in (one.results, one.signature, one.seal)]
    return sign_input([*covered, results, signature], seal, "relaxed")
