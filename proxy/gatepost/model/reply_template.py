"""Fill in a rule's ``reply``, a template like ``550 5.7.1 Not accepted here ({rule})``."""

import re

from gatepost.model.verdict import Reply

__all__ = ["FIELDS", "check", "fill"]

FIELDS = ("rule", "reason", "id", "sender", "recipient", "client")
"""Names that a template may contain in braces; anything else in braces is an error."""

_FIELD = re.compile(r"\{(\w*)\}")
_LONGEST_VALUE = 256
_LONGEST_TEXT = 1024


def check(template: str) -> Reply:
    """Check a template; raises ValueError if it is not a reply or has an unknown field."""
    reply = Reply.parse(template)
    for name in _FIELD.findall(template):
        if name not in FIELDS:
            raise ValueError(
                f"unknown field {{{name}}}: the fields are {', '.join(f'{{{f}}}' for f in FIELDS)}"
            )
    if reply.text.count("{") != len(_FIELD.findall(reply.text)):
        raise ValueError("a brace { that opens no field")
    return reply


def fill(template: str, **values: str) -> Reply:
    """The reply to one client; a field without a value stays empty.

    Whatever the values hold, it is one safe reply of the template's code: they become one line of at
    most 256 characters each, 1,024 in all.

    Raises:
        ValueError: the template is none that `check` lets pass.
    """
    reply = Reply.parse(template)

    def value(found: re.Match[str]) -> str:
        return " ".join(values.get(found[1], "")[:_LONGEST_VALUE].split())

    text = _FIELD.sub(value, reply.text)[:_LONGEST_TEXT]
    return Reply(code=reply.code, enhanced=reply.enhanced, text=text)
