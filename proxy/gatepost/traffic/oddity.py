"""What a client does that a strict server refuses, and a tolerant one accepts and records."""

from enum import StrEnum

__all__ = ["Oddity"]


class Oddity(StrEnum):
    """One thing that is wrong with a command that was accepted.

    The conversation has a line ``odd`` with the value behind the command. The terminal and the web desk's
    checks explain it with `finding`.
    """

    EARLY = "early-talker"
    """Something was sent before the greeting."""
    LINE_END = "command-lf"
    """A command line ends with LF alone."""
    CHARACTERS = "command-characters"
    """Control characters, or bytes that are not UTF-8."""
    SPACES = "command-spaces"
    """White space where none belongs."""
    ORDER = "command-order"
    """A command at the wrong place: MAIL before EHLO, AUTH twice."""
    ARGUMENT = "command-argument"
    """An argument where none belongs."""
    HELLO = "hello-name"
    """The argument of EHLO or HELO is neither a domain name nor an address literal."""
    AUTH = "auth-response"
    """A response of AUTH that is malformed, has no user name or asks to act for another user."""
    BRACKETS = "path-brackets"
    """A path without its angle brackets, or with more than belong there."""
    DOTS = "local-part-dots"
    """A local part begins or ends with a dot, or two follow each other."""
    DOMAIN_DOT = "domain-dot"
    """The domain ends with a dot."""
    NO_DOMAIN = "path-domain"
    """An address without a domain."""
    NEEDS_SMTPUTF8 = "path-utf8"
    """An address that is not ASCII, without SMTPUTF8."""
    SOURCE_ROUTE = "source-route"
    """A path that names servers on the way (RFC 5321 appendix C)."""
    PATH = "path-syntax"
    """A path that is no address in another way."""
    PARAMETER = "parameter"
    """A parameter of MAIL or RCPT that is unknown, malformed or written twice."""

    @property
    def finding(self) -> str:
        """What is wrong, as the end of a sentence about the command, for example ``ends with LF alone``."""
        return _FINDINGS[self]


_FINDINGS = {
    Oddity.EARLY: "was sent before the greeting",
    Oddity.LINE_END: "ends with LF alone",
    Oddity.CHARACTERS: "holds control characters or bytes that are not UTF-8",
    Oddity.SPACES: "holds white space where none belongs",
    Oddity.ORDER: "is at the wrong place",
    Oddity.ARGUMENT: "has an argument and should have none",
    Oddity.HELLO: "names neither a domain nor an address literal",
    Oddity.AUTH: "had a malformed response, no user name or another user to act for",
    Oddity.BRACKETS: "has a path that is not in one pair of angle brackets",
    Oddity.DOTS: "has a local part with dots at its ends or behind each other",
    Oddity.DOMAIN_DOT: "has a domain that ends with a dot",
    Oddity.NO_DOMAIN: "has an address without a domain",
    Oddity.NEEDS_SMTPUTF8: "has an address that is not ASCII, without SMTPUTF8",
    Oddity.SOURCE_ROUTE: "has a source route",
    Oddity.PATH: "has no address in the standard's syntax",
    Oddity.PARAMETER: "has a parameter that is unknown, malformed or there twice",
}
