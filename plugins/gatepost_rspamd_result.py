"""What rspamd answers to ``/checkv2``, and the edits that it asks for."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from gatepost import (
    AddHeader,
    AddRecipient,
    ChangeSender,
    Edit,
    EnvelopeEdit,
    RemoveHeader,
    RemoveRecipient,
)
from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, ValidationError

__all__ = ["Result", "result_of"]

_SHOWN_SYMBOLS = 40
_EDITS_LIMIT = 200
_FOLD = re.compile(r"(?:\r?\n[ \t]*)+")


def _mapping(found: Any) -> Any:
    """An empty table of Lua becomes an empty list in JSON."""
    return {} if found == [] else found


def _listed(found: Any) -> Any:
    return found if isinstance(found, list) else [found]


class _Symbol(BaseModel):
    score: FiniteFloat = 0.0
    options: Annotated[list[Any], BeforeValidator(_listed)] = Field(default_factory=list)


class _Added(BaseModel):
    """One field that is added."""

    value: str
    order: int = -1
    """How many fields stay before it, the server's own Received field among them; -1: it is the last one."""


def _added(found: Any) -> Any:
    return {"value": found} if isinstance(found, str) else found


_Fields = Annotated[list[Annotated[_Added, BeforeValidator(_added)]], BeforeValidator(_listed)]
_Numbers = Annotated[list[int], BeforeValidator(_listed)]
_Addresses = Annotated[list[str], BeforeValidator(_listed)]


class _Milter(BaseModel):
    """The changes to the message."""

    add_headers: Annotated[dict[str, _Fields], BeforeValidator(_mapping)] = Field(default_factory=dict)
    remove_headers: Annotated[dict[str, _Numbers], BeforeValidator(_mapping)] = Field(default_factory=dict)
    """The numbers of the fields of a name, from 1, or negative from the end; 0: all of them."""
    change_from: str | None = None
    add_rcpt: _Addresses = Field(default_factory=list)
    del_rcpt: _Addresses = Field(default_factory=list)
    reject: str | None = None


class Result(BaseModel):
    """What rspamd found."""

    action: str
    score: FiniteFloat
    required_score: FiniteFloat | None = None
    """The highest threshold of any action."""
    symbols: Annotated[dict[str, _Symbol], BeforeValidator(_mapping)] = Field(default_factory=dict)
    messages: Annotated[dict[str, Any], BeforeValidator(_mapping)] = Field(default_factory=dict)
    subject: str | None = None
    """The new subject, encoded."""
    time_real: FiniteFloat
    """In seconds."""
    is_skipped: bool = False
    milter: _Milter = Field(default_factory=_Milter)

    def __str__(self) -> str:
        """For the journal, for example ``rspamd: add header, score 7.5 of 15: A(5), B(2.5)``."""
        names = [f"{name}({symbol.score:g})" for name, symbol in self._sorted()]
        more = len(names) - _SHOWN_SYMBOLS
        shown = ", ".join(names[:_SHOWN_SYMBOLS]) + (f" and {more} more" if more > 0 else "")
        of = "" if self.required_score is None else f" of {self.required_score:g}"
        skipped = ", skipped" if self.is_skipped else ""
        return f"rspamd: {self.action}, score {self.score:g}{of}{skipped}" + (f": {shown}" if shown else "")

    def described_symbols(self) -> Iterator[str]:
        """Each symbol with score and options, the weightiest first."""
        for name, symbol in self._sorted():
            options = f" [{', '.join(map(str, symbol.options))}]" if symbol.options else ""
            yield f"{name} {symbol.score:g}{options}"

    def _sorted(self) -> list[tuple[str, _Symbol]]:
        return sorted(self.symbols.items(), key=lambda one: -abs(one[1].score))

    def edits(self) -> tuple[Edit | EnvelopeEdit, ...]:
        """The changes that rspamd asks for, in the order in which it makes them as a milter.

        Raises ConnectionError for one that cannot be made.
        """
        try:
            edits = tuple(self._edits())
        except ValueError as error:
            raise ConnectionError(f"rspamd asks for a change that cannot be made: {error}") from error
        if len(edits) > _EDITS_LIMIT:
            raise ConnectionError(f"rspamd asks for {len(edits)} changes, expected at most {_EDITS_LIMIT}")
        return edits

    def _edits(self) -> Iterator[Edit | EnvelopeEdit]:
        milter = self.milter
        for name, numbers in milter.remove_headers.items():
            yield from _removed(name, numbers)
        above = 0  # fields above the server's own Received field, which comes first in a milter's eyes
        for name, fields in milter.add_headers.items():
            for one in fields:
                value = b" " + _FOLD.sub("\r\n\t", one.value.strip()).encode()
                index = one.order - 1 if one.order > above else one.order
                above += index == one.order >= 0
                yield AddHeader(name, value, None if index < 0 else index)
        if self.action == "add header":
            yield RemoveHeader("X-Spam")
            yield AddHeader("X-Spam", "Yes")
        if self.action == "rewrite subject" and self.subject is not None:
            yield RemoveHeader("Subject")
            yield AddHeader("Subject", self.subject)
        if milter.change_from is not None:
            yield ChangeSender(_address(milter.change_from))
        for address in milter.del_rcpt:
            yield RemoveRecipient(_address(address))
        for address in milter.add_rcpt:
            yield AddRecipient(_address(address))


def _removed(name: str, numbers: list[int]) -> Iterator[RemoveHeader]:
    if 0 in numbers:
        yield RemoveHeader(name)
        return
    if min(numbers) < 0:
        raise ValueError(f"remove {name} number {min(numbers)}, expected 0 or more")
    for number in sorted(set(numbers), reverse=True):  # the last first: the others keep their numbers
        yield RemoveHeader(name, number=number)


def _address(text: str) -> str:
    return text.strip().removeprefix("<").removesuffix(">")


def result_of(body: bytes) -> Result:
    """The result in the body of an answer; raises ConnectionError.

    Rspamd writes what it has copied from a message as it is: it need not be UTF-8.
    """
    try:
        return Result.model_validate_json(body.decode("utf-8", "replace"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConnectionError(f"unexpected answer: {where}: {first['msg']}: {body[:200]!r}") from error
