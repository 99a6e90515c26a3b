"""Octets of a command as text that every log, database and page can take."""

import re
from typing import Final

__all__ = ["visible_text"]

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def visible_text(octets: bytes) -> str:
    r"""UTF-8 as it is; every other octet and each control character but tab as an escape like ``\xfc``."""
    text = octets.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
