"""The edits of a kept message as JSON, and back."""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, assert_never

from gatepost.model.edits import AddHeader, ChangeHeader, Edit, PrefixSubject, RemoveHeader, ReplaceBody
from gatepost.store.errors import StoreError

__all__ = ["edits_from_json", "edits_to_json"]


def edits_to_json(edits: tuple[Edit, ...]) -> str:
    """A list like ``[["add", "X-Kind", "news"], ["remove", "Precedence"], ["subject", "[news] "]]``.

    A value in bytes is a list with its characters in Latin-1.
    """
    return json.dumps([_words(edit) for edit in edits], separators=(",", ":"))


def _words(edit: Edit) -> Sequence[object]:
    match edit:
        case AddHeader(name, value, index):
            return ("add", name, _stored(value), *(() if index == 0 else (index,)))
        case ChangeHeader(name, value, number):
            return ("change", name, _stored(value), number)
        case RemoveHeader(name, value, number):
            if number is not None:
                return ("remove", name, number)
            return ("remove", name) if value is None else ("remove", name, value)
        case PrefixSubject(text):
            return ("subject", text)
        case ReplaceBody(body):
            return ("body", b64encode(body).decode("ascii"))
        case _:
            assert_never(edit)


def edits_from_json(text: str) -> tuple[Edit, ...]:
    """The edits; raises StoreError for a kind that this version does not know."""
    return tuple([_edit(words) for words in json.loads(text)])


def _edit(words: Sequence[Any]) -> Edit:
    match words:
        case ("add", name, value):
            return AddHeader(name, _value(value))
        case ("add", name, value, index):
            return AddHeader(name, _value(value), index)
        case ("change", name, value, number):
            return ChangeHeader(name, _value(value), number)
        case ("remove", name):
            return RemoveHeader(name)
        case ("remove", name, int(number)):
            return RemoveHeader(name, number=number)
        case ("remove", name, value):
            return RemoveHeader(name, value)
        case ("subject", text):
            return PrefixSubject(text)
        case ("body", text):
            return ReplaceBody(b64decode(text))
        case _:
            raise StoreError(f"the store has an edit of an unknown kind: {words!r:.100}")


def _stored(value: str | bytes) -> str | list[str]:
    return [value.decode("latin-1")] if isinstance(value, bytes) else value


def _value(stored: str | list[str]) -> str | bytes:
    return stored[0].encode("latin-1") if isinstance(stored, list) else stored
