"""A parameter of a Content-Type field that decides nothing but what a page says."""

import re

from gatepost.mime.entity import Entity

__all__ = ["declared_parameter"]

_PARAMETER = re.compile(r"""[;\s]([\w-]{1,60})\s*+=\s*+(?:"([^"]{0,200})"|([^\s;"]{1,200}))""", re.ASCII)
_FIELD_LIMIT = 4000


def declared_parameter(part: Entity, name: str) -> str:
    """The value of the first one of that name (in lower case), in lower case; empty where there is none.

    The MIME reader has only those parameters that decide about texts and file names.
    """
    field = part.declared.text_of(b"content-type")[:_FIELD_LIMIT]
    for found in _PARAMETER.finditer(field):
        if found[1].lower() == name:
            return (found[2] or found[3] or "").strip().lower()
    return ""
