"""The field Authentication-Results (RFC 8601): written, and the parts that are needed read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["MethodResult", "authserv_id", "claims_to_be", "results_of", "results_value"]

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TOKEN = re.compile(r"[^\s()<>@,;:\\\"/\[\]?=]+")
_PIECE = re.compile(r'\\.|[()"]|[^\\()"]+|\\', re.DOTALL)
_RESULT = re.compile(r"(?:^|;)\s*([A-Za-z0-9-]+)(?:\s*/\s*[0-9]+)?\s*=\s*([A-Za-z]+)")
_UNSAFE = re.compile(r"[^!#-'*-:<-\[\]-~]+")
"""Characters that are replaced in a comment, since some readers take them for its end."""
_PASSED_OVER = re.compile(r'[\s"\\()]+')
_VERSION = re.compile(r"\.?[0-9]*")
_PLAIN = re.compile(r"[A-Za-z0-9!#$&'*+.^_`{|}~@%-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """The result of one method, for example ``dkim=pass (2048-bit key) header.d=example.com``."""

    method: str
    result: str
    comment: str = ""
    """For a person; characters that are not safe in a comment become spaces."""
    properties: dict[str, str] = field(default_factory=dict)
    """For example ``{"header.d": "example.com"}``."""

    def __str__(self) -> str:
        """As it is written into the field."""
        words = [f"{self.method}={self.result}"]
        if comment := _UNSAFE.sub(" ", self.comment).strip():
            words.append(f"({comment})")
        words += [f"{name}={_value(value)}" for name, value in self.properties.items() if value]
        return " ".join(words)


def _value(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    shown = "".join(one for one in text if one.isprintable())
    return '"' + re.sub(r'(["\\])', r"\\\1", shown) + '"'


def results_value(server: str, results: Iterable[MethodResult]) -> str:
    """The field's value, not folded."""
    return "; ".join([server, *map(str, results)])


def results_of(value: str) -> set[tuple[str, str]]:
    """The methods of a field's value with their results, without what is in comments and quotes."""
    return {(method.lower(), result.lower()) for method, result in _RESULT.findall(_outside(value))}


def _outside(value: str, *, keep_quoted: bool = False) -> str:
    """The value without its comments (RFC 5322 section 3.2.2) and without the text in its quotes."""
    kept: list[str] = []
    depth, quoted = 0, False
    for found in _PIECE.finditer(value):
        piece = found[0]
        if quoted:
            quoted = piece != '"'
            if keep_quoted:
                kept.append(piece)
        elif piece == "(":
            depth += 1
        elif piece == ")":
            depth = max(0, depth - 1)
        elif not depth:
            quoted = piece == '"'
            kept.append(piece)
    return "".join(kept)


def authserv_id(value: str) -> str | None:
    """The server's name at the beginning of a field's value, in lower case; None if it cannot be read.

    Comments, quotes and line ends before it are skipped, as other readers of the field may do.
    """
    position = _after_comments(value)
    if position is None:
        return None
    if quoted := _QUOTED.match(value, position):
        return re.sub(r"\\(.)", r"\1", quoted[1]).strip().lower()
    token = _TOKEN.match(value, position)
    return token[0].lower() if token else None


def claims_to_be(value: str, server: str) -> bool:
    """True if some reader may take the field for this server's, or the name in it cannot be read.

    OpenDMARC passes over white space, comments and quotes in the middle of a name, single backslashes and
    closing brackets; and a name in DNS may end with a dot.
    """
    if authserv_id(value) in (server.lower(), None):
        return True
    beginning = _outside(value, keep_quoted=True).partition(";")[0]
    name = _PASSED_OVER.sub("", beginning).lower()
    return name.startswith(server.lower()) and bool(_VERSION.fullmatch(name, len(server)))


def _after_comments(value: str) -> int | None:
    """The position of the first character outside white space and comments; None for an open comment."""
    position = depth = 0
    while position < len(value):
        character = value[position]
        if character == "(":
            depth += 1
        elif character == ")" and depth:
            depth -= 1
        elif character == "\\" and depth:
            position += 1
        elif not depth and not character.isspace():
            return position
        position += 1
    return None if depth else position
