"""What a client does that a strict server refuses, and a tolerant one takes and writes down."""

from enum import StrEnum

__all__ = ["Oddity"]


class Oddity(StrEnum):
    """One thing that is wrong with a command that was taken.

    The conversation has a line ``odd`` with the value behind the command, and the web desk's checks
    explain it.
    """

    EARLY = "early-talker"
    """Something was sent before the greeting."""
    LINE_END = "command-lf"
    """A command line ends with LF alone."""
    CHARACTERS = "command-characters"
    """Control characters, or octets that are not UTF-8."""
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
    PATH = "path-syntax"
    """A path that is no address in another way."""
    PARAMETER = "parameter"
    """A parameter of MAIL or RCPT that is unknown, malformed or written twice."""
