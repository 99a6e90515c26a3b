"""Changes to the envelope of a message: its recipients and its sender.

Each applies to the recipients that the verdict is about. The message's own bytes stay as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gatepost.model.addresses import mailbox_key
from gatepost.model.checks import plain
from gatepost.printable import without_controls
from gatepost.values import value

__all__ = [
    "ENVELOPE_EDITS",
    "AddRecipient",
    "ChangeSender",
    "EnvelopeChanges",
    "EnvelopeEdit",
    "RemoveRecipient",
    "changes_of",
]


_ADDRESS_LIMIT = 1024


def _checked(field: str, address: str) -> str:
    """The text; whether it is an address that mail may be sent to is known where it has a route."""
    text = plain(field, address)
    if len(text) > _ADDRESS_LIMIT or without_controls(text) != text:
        raise ValueError(f"{text[:200]!r} is not an address, expected the text between the angle brackets")
    return text


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Send the message to one more recipient, with the edits of those that the verdict is about.

    It is sent there if the message is delivered, or kept in quarantine, for one of them. A recipient of the
    message is not added again. The rules are not asked about it.
    """

    address: str
    """Without angle brackets."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", _checked("AddRecipient.address", self.address))
        if not self.address:
            raise ValueError("AddRecipient.address is empty, expected an address")

    def __str__(self) -> str:
        """For a person, for example ``add recipient <ann@example.com>``."""
        return f"add recipient <{self.address}>"


@dataclass(frozen=True, slots=True)
class RemoveRecipient:
    """Do not send the message to this recipient, if the verdict is about it; one of another is ignored."""

    address: str
    """Without angle brackets, in any spelling."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", _checked("RemoveRecipient.address", self.address))

    def __str__(self) -> str:
        """For a person, for example ``remove recipient <ann@example.com>``."""
        return f"remove recipient <{self.address}>"


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Send the message on with another reverse-path (RFC 5321 section 4.1.1.2)."""

    address: str
    """Without angle brackets; empty for the null reverse-path."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", _checked("ChangeSender.address", self.address))

    def __str__(self) -> str:
        """For a person, for example ``change sender to <ann@example.com>``."""
        return f"change sender to <{self.address}>"


EnvelopeEdit = AddRecipient | RemoveRecipient | ChangeSender
"""One change to the envelope of a message on its way out."""
ENVELOPE_EDITS = (AddRecipient, RemoveRecipient, ChangeSender)
"""The classes of `EnvelopeEdit`."""


@value
class EnvelopeChanges:
    """What edits of the envelope come to for one recipient."""

    rule: str
    """The last rule that made one of them."""
    mail_from: str | None
    """The new reverse-path; None: unchanged."""
    added: tuple[str, ...]
    """The recipients that get the message too, each once."""
    removed: bool
    """True if this recipient does not get it."""


def changes_of(recipient: str, edits: Iterable[tuple[str, EnvelopeEdit]]) -> EnvelopeChanges | None:
    """The changes for a recipient; ``edits`` are in their order, each with its rule. None without edits."""
    own = mailbox_key(recipient)
    rule, mail_from, removed = "", None, False
    added: dict[str, str] = {}
    for rule, edit in edits:  # noqa: B007 - the last one is kept
        match edit:
            case AddRecipient(address):
                key = mailbox_key(address)
                if key == own:
                    removed = False
                else:
                    added.setdefault(key, address)
            case RemoveRecipient(address):
                key = mailbox_key(address)
                added.pop(key, None)
                removed = removed or key == own
            case ChangeSender(address):
                mail_from = address
    if not rule:
        return None
    return EnvelopeChanges(rule=rule, mail_from=mail_from, added=tuple(added.values()), removed=removed)
