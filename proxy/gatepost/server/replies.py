"""How a command is refused or a session ended, and a reply as bytes."""

from functools import lru_cache

from gatepost.model.verdict import Reply

__all__ = ["Refusal", "SessionEnd", "encode"]


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Refuses a command with `reply`; the session goes on."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class SessionEnd(Exception):  # noqa: N818 - not always an error
    """Ends the session, after a last reply if there is one."""

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__(reply)
        self.reply = reply


@lru_cache(maxsize=256)
def encode(code: int, enhanced: str | None, text: str, utf8: bool) -> bytes:  # noqa: FBT001 - for the cache
    """The bytes of a reply; a basic enhanced code is added if it has none (RFC 2034)."""
    if enhanced is None and code // 100 in (2, 4, 5):
        enhanced = f"{code // 100}.0.0"
    return Reply(code=code, text=text, enhanced=enhanced).to_bytes(utf8=utf8)
