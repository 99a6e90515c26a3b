"""The arguments of MAIL and RCPT that `paths` refuses, as a tolerant server reads them.

`read_mail` and `read_rcpt` accept what Postfix accepts by default: a path without brackets, white space
around it, an address without a domain, and a non-ASCII address without SMTPUTF8. With ``everything`` they
refuse nothing. They also return the oddities of the argument. The address itself is never changed, only what
is around it is removed.
"""

import re
from collections.abc import Callable, Collection
from typing import Final

from gatepost.model import replies
from gatepost.model.verdict import Reply
from gatepost.server.paths import NEED_NO_OFFER, is_mailbox, parse_mail, parse_rcpt
from gatepost.server.replies import Refusal
from gatepost.traffic.oddity import Oddity
from gatepost.values import value

__all__ = ["OddPath", "read_mail", "read_rcpt"]

_BLANKS: Final = " \t"
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_BRACKETED = rf'<+[^<>"\\]*(?:{_QUOTED}[^<>"\\]*)*>+'
_BARE = rf'(?:[^<>"\\ \t]|{_QUOTED})+>?'
_PATH = re.compile(rf"({_BRACKETED}|{_BARE})(?:[ \t]+(.*))?", re.DOTALL)
_BARE_NAME = re.compile(r"""[^\x00-\x20\x7f-\x9f()<>\[\]:;@\\,"]{1,254}""")
_SOURCE_ROUTE = re.compile(r"@[^:]+:.+", re.DOTALL)
_KEYWORD = re.compile(r"(?:FROM|TO)\b[ \t]*:?[ \t]*", re.IGNORECASE)
_PARAMETER = re.compile(r"[A-Za-z0-9-]+=[^@]*|SMTPUTF8", re.IGNORECASE)
"""What counts as a parameter after a path without brackets."""
_NEVER_LENIENT: Final = frozenset((Oddity.PATH, Oddity.SOURCE_ROUTE))


@value
class OddPath:
    """The argument of MAIL or RCPT, as far as it can be read."""

    address: str
    """Without brackets, and without white space around it."""
    parameters: tuple[str, ...]
    """As received."""
    oddities: tuple[Oddity, ...]
    """Each at most once; empty for a well-formed argument."""


def read_mail(argument: str, offered: Collection[str], *, everything: bool) -> OddPath:
    """The argument of MAIL; raises `Refusal`, but not with ``everything``.

    ``offered`` are the extensions of the EHLO reply: the parameters of others are odd.
    """
    spelling = _spelling(argument, "FROM", replies.BAD_MAIL, replies.BAD_MAIL_FROM, everything=everything)

    def parse(words: str) -> tuple[str, ...]:
        need_no_offer = () if everything else NEED_NO_OFFER
        return parse_mail(f"FROM:<> {words}", offered, need_no_offer=need_no_offer)[1]

    parameters, odd = _parameters(spelling.words, parse, everything=everything)
    address = spelling.address
    if address:
        odd |= _oddities(address, smtputf8=any(one.upper() == "SMTPUTF8" for one in parameters))
    if not everything and odd & _NEVER_LENIENT:
        raise Refusal(replies.BAD_MAIL_FROM)
    return OddPath(address=address, parameters=parameters, oddities=tuple(sorted(spelling.odd | odd)))


def read_rcpt(argument: str, offered: Collection[str], *, smtputf8: bool, everything: bool) -> OddPath:
    """The argument of RCPT; raises `Refusal`, but not with ``everything``.

    ``smtputf8`` tells whether MAIL had that parameter.
    """
    spelling = _spelling(argument, "TO", replies.BAD_RCPT, replies.BAD_RECIPIENT, everything=everything)

    def parse(words: str) -> tuple[str, ...]:
        need_no_offer = () if everything else NEED_NO_OFFER
        path = f"TO:<postmaster> {words}"
        return parse_rcpt(path, offered, smtputf8=smtputf8, need_no_offer=need_no_offer)[1]

    parameters, odd = _parameters(spelling.words, parse, everything=everything)
    address = spelling.address
    if address.lower() != "postmaster":
        odd |= _oddities(address, smtputf8=smtputf8)
    if not everything and odd & _NEVER_LENIENT:
        raise Refusal(replies.SOURCE_ROUTE if Oddity.SOURCE_ROUTE in odd else replies.BAD_RECIPIENT)
    return OddPath(address=address, parameters=parameters, oddities=tuple(sorted(spelling.odd | odd)))


@value
class _Spelling:
    address: str
    words: list[str]
    """After the path."""
    odd: frozenset[Oddity]
    """Oddities outside of the address."""


def _spelling(
    argument: str, keyword: str, bad_command: Reply, bad_path: Reply, *, everything: bool
) -> _Spelling:
    name, colon, text = argument.partition(":")
    stripped = text.strip(_BLANKS)
    if not colon or name.upper() != keyword or not stripped:
        if everything:
            found = _KEYWORD.match(argument)
            return _guess(argument[found.end() if found else 0 :])
        raise Refusal(bad_command)
    found = _PATH.fullmatch(stripped)
    path, words = (found[1], (found[2] or "").split()) if found else ("", [])
    if not path or (path[0] != "<" and not all(map(_PARAMETER.fullmatch, words))):
        if everything:  # <bob@example.com, or Bob <bob@example.com>
            return _guess(stripped)
        raise Refusal(bad_path)
    within = path.strip("<>")
    address = within.strip(_BLANKS)
    odd = set()
    if path != f"<{within}>":
        odd.add(Oddity.BRACKETS)
    if within != address or " ".join((path, *words)) != text.rstrip(_BLANKS):
        odd.add(Oddity.SPACES)
    return _Spelling(address=address, words=words, odd=frozenset(odd))


def _guess(text: str) -> _Spelling:
    """The most likely address in a malformed path, and the words that may be parameters."""
    end = text.find(">")
    begin = text.rfind("<", 0, max(end, 0))
    if begin >= 0:
        address, words = text[begin + 1 : end].strip(_BLANKS), text[end + 1 :].strip("<> \t").split()
    else:
        words = text.split()
        count = len(words)
        while count > 1 and _PARAMETER.fullmatch(words[count - 1]):
            count -= 1
        address, words = " ".join(words[:count]).strip("<>"), words[count:]
    return _Spelling(address=address, words=words, odd=frozenset((Oddity.PATH,)))


def _parameters(
    words: list[str], parse: Callable[[str], tuple[str, ...]], *, everything: bool
) -> tuple[tuple[str, ...], set[Oddity]]:
    if not words:
        return (), set()
    try:
        return parse(" ".join(words)), set()
    except Refusal:
        if not everything:
            raise
    return tuple(words), {Oddity.PARAMETER}


def _oddities(address: str, *, smtputf8: bool) -> set[Oddity]:
    if _SOURCE_ROUTE.fullmatch(address):
        return {Oddity.SOURCE_ROUTE}
    local, at, domain = address.rpartition("@")
    odd = set()
    if not smtputf8 and not address.isascii():
        odd.add(Oddity.NEEDS_SMTPUTF8)
    if not at and _BARE_NAME.fullmatch(address):
        return odd | {Oddity.NO_DOMAIN}
    if not is_mailbox(address):
        return odd | {Oddity.PATH}
    if local[0] != '"' and ".." in f".{local}.":
        odd.add(Oddity.DOTS)
    if domain[-1] == ".":
        odd.add(Oddity.DOMAIN_DOT)
    return odd
