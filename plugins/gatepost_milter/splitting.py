"""A message as a milter is told of it: its fields, and its body."""

import re

__all__ = ["split"]

_MBOX = re.compile(rb"(?:>*+From (?![ \t]*+:)[^\n]*+\n)*+")
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)")


def split(section: bytes, content: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The names and the values of the fields, and the body; ``section`` is the header section.

    A value begins behind the colon and has its folds. A line that is no field begins the body, as in Postfix,
    so that nothing is hidden. Lines of an mbox before the first field are left out.
    """
    fields: list[tuple[bytes, bytes]] = []
    mbox = _MBOX.match(section)
    position = mbox.end() if mbox else 0
    while found := _FIELD.match(section, position):
        value = found[2]
        fields.append((found[1], value[:-1] if value.endswith(b"\r") else value))
        position = found.end()
    if not fields:
        position = 0
    for line_end in (b"\r\n", b"\n"):
        if content.startswith(line_end, position):
            return fields, content[position + len(line_end) :]
    return fields, content[position:]
