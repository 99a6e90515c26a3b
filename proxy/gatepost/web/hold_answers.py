"""An answer to a session that is held, from what a person typed or a test sent."""

import base64
import binascii
import re

from gatepost.holding import Answer
from gatepost.model.verdict import Reply

__all__ = ["make_answer"]

_LINE_END = re.compile(r"\r?\n")


def make_answer(
    *,
    actor: str,
    reply: str | None = None,
    mail_from: str | None = None,
    recipients: list[str] | None = None,
    message: str | None = None,
    message_base64: str | None = None,
) -> Answer:
    """Make it; raises ValueError, which says what is wrong.

    Args:
        actor: the person or program that answers.
        reply: as SMTP has it, for example ``550 5.7.1 No``; None or empty: as decided.
        mail_from: another reverse-path, with or without its brackets.
        recipients: all forward-paths, with or without their brackets.
        message: another message; its lines may end with LF, and are sent as UTF-8.
        message_base64: the same as exact bytes.
    """
    if message is not None and message_base64 is not None:
        raise ValueError("message and message_base64: expected one of them")
    content = None
    if message is not None:
        content = _LINE_END.sub("\r\n", message).encode()
    elif message_base64 is not None:
        try:
            content = base64.b64decode(message_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"message_base64 is not base64: {error}") from None
    return Answer(
        actor=actor,
        reply=Reply.parse(reply) if reply else None,
        mail_from=None if mail_from is None else _path(mail_from),
        recipients=None if recipients is None else tuple(map(_path, recipients)),
        content=content,
    )


def _path(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text
