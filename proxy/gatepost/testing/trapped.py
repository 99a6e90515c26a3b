"""One message that a complaints server has accepted, as a test reads it."""

import email
import email.policy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from functools import cached_property
from typing import Any, Protocol

__all__ = ["Attachment", "Link", "ReceivedMessage"]

_SAVED_SECONDS = 10.0
"""Time until the conversation is stored after the last reply; usually a fifth of a second."""
_LOOK_SECONDS = 0.02


class _Api(Protocol):
    """The API of the server that has the message."""

    def get(self, path: str) -> bytes: ...
    def get_json(self, path: str, **parameters: Any) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attachment of a message."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link of a message."""

    text: str
    """The words one reads; empty if one reads the URL itself."""
    href: str
    """Where it leads."""


class ReceivedMessage:
    """A message that the server accepted."""

    def __init__(self, server: _Api, fields: Mapping[str, Any]) -> None:
        self._server = server
        self._fields = fields
        self.id: str = fields["id"]
        self.received_at = datetime.fromisoformat(fields["created_at"])
        """Aware, UTC."""
        self.mail_from: str = fields["mail_from"]
        """The reverse-path of the envelope; empty for the null reverse-path."""
        self.recipients: tuple[str, ...] = tuple(fields["recipients"])
        """The forward-paths of the envelope, whatever To and Cc say."""
        self.subject: str = fields["subject"]
        """Decoded, as are ``author``, ``to`` and ``cc``. Empty if there is none."""
        self.author: str = fields["author"]
        """The From field."""
        self.to: str = fields["to"]
        self.cc: str = fields["cc"]
        self.bcc: tuple[str, ...] = tuple(fields["bcc"])
        """The recipients that neither To nor Cc names."""
        self.text: str = fields["text"] or ""
        """The plain text, or one made from the HTML; empty if there is neither."""
        self.links: tuple[str, ...] = tuple(fields["links"])
        """The http and https addresses in text and HTML, each once, in their order."""
        self.anchors: tuple[Link, ...] = tuple(
            Link(text=one["text"], href=one["href"]) for one in fields["anchors"]
        )
        """The links of the HTML with their words, in their order; also mailto and tel."""
        main = fields["main_link"]
        self.main_link: Link | None = Link(text=main["text"], href=main["href"]) if main else None
        """The link that the message is about, for example to confirm an address; None if none clearly is."""
        self.codes: tuple[str, ...] = tuple(fields["codes"])
        """What looks like a one-time code, the likeliest first."""
        self.problems: tuple[str, ...] = tuple(found["text"] for found in fields["lint"])
        """Problems of the message, for example a missing Date; the worst first."""

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.subject!r} from {self.mail_from!r} to {', '.join(self.recipients)}>"

    @cached_property
    def raw(self) -> bytes:
        """The bytes as sent, with a Received field at the top."""
        return self._server.get(f"messages/{self.id}/raw")

    @cached_property
    def email(self) -> EmailMessage:
        """The message as Python's email package parses it."""
        return email.message_from_bytes(self.raw, policy=email.policy.default)

    @cached_property
    def html(self) -> str:
        """The HTML as it was sent; empty if there is none."""
        body = self.email.get_body(("html",))
        return str(body.get_content()) if body is not None else ""

    @cached_property
    def attachments(self) -> tuple[Attachment, ...]:
        """The parts that are neither the message's text nor `inline_images`."""
        return self._read("attachments")

    @cached_property
    def inline_images(self) -> tuple[Attachment, ...]:
        """The images that the HTML shows in their places."""
        return self._read("inline_images")

    def _read(self, kind: str) -> tuple[Attachment, ...]:
        return tuple(
            Attachment(
                filename=one["filename"],
                content_type=one["content_type"],
                content=self._server.get(f"messages/{self.id}/attachments/{one['number']}"),
            )
            for one in self._fields[kind]
        )

    @property
    def conversation(self) -> str:
        """The SMTP conversation, from MAIL to the last reply: ``C:`` client, ``D:`` data, ``S:`` server.

        Empty if the server stores no conversations.
        """
        record = self._fields["record"]
        give_up = time.monotonic() + _SAVED_SECONDS
        while record:
            path = f"conversations/{record['session_id']}"
            lines = self._server.get_json(path, transaction=record["id"]).get("lines", [])
            said = "".join(line["direction"] for line in lines)
            if ("D" in said and said.endswith("S")) or time.monotonic() > give_up:
                return "\n".join(
                    f"{line['direction']}: {part}"
                    for line in lines
                    for part in line["text"].removesuffix("\r\n").split("\r\n")
                    if line["direction"] != "*"
                )
            time.sleep(_LOOK_SECONDS)
        return ""
