"""Text that flows (RFC 3676): the lines of a paragraph, joined as a mail program shows them."""

import re
from io import StringIO

__all__ = ["unflowed"]

_LINE = re.compile(r"(>*+) ?([^\n]*+)(\n|\Z)")
_SIGNATURE = "-- "


def unflowed(text: str, *, delsp: bool) -> str:
    """A text of ``format=flowed`` with the lines of each paragraph joined, quoted ones too.

    A line that ends in a space goes on in the next one of the same depth of quoting (section 4.1), but for
    the line before a signature (section 4.3). The space in front of a line that is stuffed is left out
    (section 4.4), and so is the one at the end with ``DelSp=yes`` (``delsp``). Line breaks become LF.
    """
    lines = StringIO()
    depth: str | None = None
    for found in _LINE.finditer(text.replace("\r\n", "\n")):
        quotes, line, end = found.groups()
        if depth is not None and (quotes != depth or line == _SIGNATURE):
            lines.write("\n")
            depth = None
        if depth is None and quotes:
            lines.write(f"{quotes} ")
        if line.endswith(" ") and line != _SIGNATURE and end:
            lines.write(line[:-1] if delsp else line)
            depth = quotes
        else:
            lines.write(line + end)
            depth = None
    return lines.getvalue()
