"""AUTH for complaints mode: any credentials are accepted, and the user name is shown.

Mechanisms are refused with 504 if the server must prove that it knows the password, or if they need several
rounds; the client may then choose another one.
"""

import binascii
from base64 import b64decode, b64encode
from typing import Final

from gatepost.model import replies
from gatepost.printable import text_of
from gatepost.server.auth import CHALLENGES, EMPTY_CHALLENGE, Ask
from gatepost.server.replies import Refusal

__all__ = ["ANY_MECHANISMS", "take_anybody"]

ANY_MECHANISMS: Final = "PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER"
_REFUSED_MECHANISMS: Final = ("SCRAM-", "DIGEST-MD5", "GSSAPI", "GS2-", "NTLM", "KERBEROS", "SRP", "OTP")
_CRAM_CHALLENGE: Final = b"334 " + b64encode(b"<1.1@gatepost>") + b"\r\n"


async def take_anybody(mechanism: str, initial: bytes | None, ask: Ask) -> tuple[str, bool]:
    """The user name (may be empty), and whether the responses were well-formed.

    Raises `Refusal` if the client cancels, or for a mechanism that cannot be imitated.
    """
    name = mechanism.upper()
    if not name or name.startswith(_REFUSED_MECHANISMS):
        raise Refusal(replies.UNKNOWN_MECHANISM)
    if name == "LOGIN":
        user, is_right = _decode(await ask(CHALLENGES[0]) if initial is None else initial)
        _, too = _decode(await ask(CHALLENGES[1]))
        return _shown(user, is_right=is_right and too)
    if name == "CRAM-MD5":
        response, is_right = _decode(await ask(_CRAM_CHALLENGE))
        user, space, _ = response.rpartition(b" ")
        return _shown(user, is_right=is_right and bool(space) and initial is None)
    response, is_right = _decode(await ask(EMPTY_CHALLENGE) if initial is None else initial)
    match name:
        case "PLAIN":
            authorization, _, rest = response.partition(b"\0")
            user, nul, _ = rest.partition(b"\0")
            is_right = is_right and bool(nul) and authorization in (b"", user)
            return _shown((user or authorization) if nul else b"", is_right=is_right)
        case "XOAUTH2":
            user = response.partition(b"user=")[2].partition(b"\1")[0]
        case "OAUTHBEARER":
            user = response.partition(b"a=")[2].partition(b",")[0]
        case _:
            user = b""
    return _shown(user, is_right=is_right)


def _shown(user: bytes, *, is_right: bool) -> tuple[str, bool]:
    try:
        user.decode()
    except UnicodeDecodeError:
        is_right = False
    return text_of(user), is_right and bool(user)


def _decode(response: bytes) -> tuple[bytes, bool]:
    """The decoded bytes, and whether they were base64; otherwise empty, since it may be a password."""
    if response == b"*":
        raise Refusal(replies.AUTH_CANCELLED)
    if response == b"=":
        return b"", True
    try:
        return b64decode(response, validate=True), True
    except binascii.Error:
        return b"", False
