"""Messages that were saved as files: one message (``.eml``), or an mbox with any number of them.

The bytes stay as they are, with one exception: a message whose first line ends with LF comes from a system
that writes line ends so, and has CRLF afterwards, as on the wire (RFC 5321 section 2.3.8).
"""

import re
from collections.abc import Iterator
from itertools import islice

from gatepost.mime.address_list import read_addresses
from gatepost.mime.fields import FieldFinder, header_section_end
from gatepost.mime.mbox import MboxEntry, Octets, separator, split_mbox
from gatepost.printable import printable
from gatepost.values import value

__all__ = [
    "FILE_OCTETS",
    "IMPORTED",
    "MESSAGE_OCTETS",
    "NOBODY",
    "SavedError",
    "SavedMessage",
    "read_saved_mbox",
    "read_saved_message",
]

FILE_OCTETS = 1 << 30
"""The largest file."""
MESSAGE_OCTETS = 128 << 20
"""The largest message, as complaints mode accepts it over SMTP."""
_MESSAGES = 10_000
"""The most messages of one file: as many as complaints mode keeps if nothing else is asked for."""
IMPORTED = "imported from a file"
"""The reason why such a message is in the store, there and in the journal."""
NOBODY = "undisclosed-recipients@invalid"
"""The recipient of a message that names none."""

_SENDERS = (b"return-path", b"x-envelope-from", b"envelope-from")
_RECIPIENTS = (b"x-envelope-to", b"envelope-to", b"x-original-to", b"delivered-to")
_HEADER_RECIPIENTS = (b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc")
_FIELD = re.compile(rb"[A-Za-z0-9][\w.-]{0,75}[ \t]*:")
"""The first line of a message; RFC 5322 section 2.2 allows any names, but those of JSON are not meant."""
_KNOWN_FIELD = re.compile(
    rb"^(?:from|to|subject|date|received|message-id|mime-version|content-type|return-path)[ \t]*:",
    re.MULTILINE | re.IGNORECASE,
)
_NULL_PATH = re.compile(rb"[ \t\r\n]*<[ \t]*>")
_HEADER_OCTETS = 8 << 20
_FIELD_OCTETS = 256 << 10
"""Of a field that is read for the envelope."""
_RECIPIENTS_LIMIT = 10_000
_ADDRESS_LIMIT = 1000
"""Bytes; an index of the store has them as a whole."""
_SHOWN = 60
_LOOK_OCTETS = 4096


class SavedError(ValueError):
    """A file, or one message of it, is not what it should be."""

    def __init__(self, line: int, *, found: str, expected: str) -> None:
        self.reason = f"found {found}, expected {expected}"
        """For a person."""
        super().__init__(f"line {line}: {self.reason}")
        self.line = line
        """Counted from 1."""
        self.found = found
        """What is there, for a person."""
        self.expected = expected
        """What should be there, for a person."""


@value
class SavedMessage:
    """One message with the envelope that was found for it."""

    line: int
    """Where it begins in the file, counted from 1; of an mbox that is its separator."""
    mail_from: str
    """The reverse-path without brackets; empty for the null reverse-path.

    That of Return-Path, X-Envelope-From or Envelope-From, of the separator of an mbox, or of From.
    """
    recipients: tuple[str, ...]
    """At least one.

    Those of X-Envelope-To, Envelope-To, X-Original-To or Delivered-To, or else of To, Cc and Bcc; `NOBODY`
    if there are none.
    """
    content: bytes


def read_saved_message(data: Octets) -> SavedMessage:
    """Read a file with one message; a separator line of an mbox before it is left out.

    Raises SavedError: it is empty, has no header field, or is larger than `MESSAGE_OCTETS`.
    """
    sender, start = separator(data) or (b"", 0)
    return _read(data, MboxEntry(line=1, sender=sender, start=start, end=len(data), quoted=False))


def read_saved_mbox(data: Octets) -> Iterator[SavedMessage | SavedError]:
    """Read the messages of an mbox in their order, one at a time; the error of one does not end it.

    Raises SavedError at once: it does not begin with a separator, or has more than 10,000 messages.
    """
    entries = [*islice(split_mbox(data), _MESSAGES + 1)]
    if not entries:
        expected = "a line like 'From bob@example.com Mon Jan  1 12:00:00 2024'"
        raise SavedError(1, found=_first_line(data), expected=expected)
    if len(entries) > _MESSAGES:
        found = f"more than {_MESSAGES:,} messages"
        raise SavedError(entries[-1].line, found=found, expected="a file with fewer, split in parts")
    return (_read_one(data, entry) for entry in entries)


def _read_one(data: Octets, entry: MboxEntry) -> SavedMessage | SavedError:
    try:
        return _read(data, entry)
    except SavedError as error:
        return error


def _read(data: Octets, entry: MboxEntry) -> SavedMessage:
    _check_size(entry.line, "message", entry.end - entry.start, MESSAGE_OCTETS)
    content = entry.content(data)
    section = content[: header_section_end(content)]
    if not _FIELD.match(content) and not _KNOWN_FIELD.search(section):
        line = entry.line + 1 if separator(data) else 1
        expected = "a header field like 'Subject: Hello'"
        raise SavedError(line, found=_first_line(content), expected=expected)
    _check_size(entry.line, "header section", len(section), _HEADER_OCTETS)
    fields = FieldFinder(section)
    return SavedMessage(
        line=entry.line,
        mail_from=_mail_from(fields, entry.sender),
        recipients=tuple(dict.fromkeys(_recipients(fields)))[:_RECIPIENTS_LIMIT] or (NOBODY,),
        content=_with_crlf(content),
    )


def _check_size(line: int, what: str, size: int, most: int) -> None:
    if size > most:
        raise SavedError(line, found=f"a {what} of {size:,} bytes", expected=f"at most {most:,} bytes")


def _mail_from(fields: FieldFinder, separator_sender: bytes) -> str:
    for name in _SENDERS:
        raw = fields.first(name)
        if _NULL_PATH.match(raw):
            return ""
        if found := next(_addresses(raw), None):
            return found
    if separator_sender.upper() == b"MAILER-DAEMON":  # RFC 4155's word for the null reverse-path
        return ""
    return next(_addresses(separator_sender), None) or next(_addresses(fields.first(b"from")), "")


def _recipients(fields: FieldFinder) -> list[str]:
    for name in _RECIPIENTS:
        if found := [*_addresses(fields.first(name))]:
            return found
    return [address for name in _HEADER_RECIPIENTS for address in _addresses(fields.first(name))]


def _addresses(raw: bytes) -> Iterator[str]:
    """The addresses with a domain, without brackets."""
    for one in read_addresses(raw[:_FIELD_OCTETS]) if raw else ():
        if "@" in one.address and len(one.address.encode("utf-8", "replace")) <= _ADDRESS_LIMIT:
            yield one.address


def _with_crlf(content: bytes) -> bytes:
    first = content.find(b"\n")
    if first < 0 or content[first - 1 : first] == b"\r":
        return content
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _first_line(data: Octets) -> str:
    line = data[:_LOOK_OCTETS].lstrip(b"\r\n").partition(b"\n")[0][:_SHOWN].rstrip()
    return f"'{printable(line.decode('utf-8', 'backslashreplace'))}'" if line else "nothing"
