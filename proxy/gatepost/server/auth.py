"""AUTH PLAIN and LOGIN (RFC 4954, RFC 4616) and the file of users."""

import asyncio
import binascii
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, Self

import argon2

from gatepost.model import replies
from gatepost.server.replies import Refusal
from gatepost.server.users_file import read_users

__all__ = [
    "BLANKED",
    "CHALLENGES",
    "EMPTY_CHALLENGE",
    "MAX_RESPONSE",
    "MECHANISMS",
    "Ask",
    "Users",
    "authenticate",
    "hash_password",
    "without_secrets",
]

MECHANISMS: Final = "PLAIN LOGIN"
MAX_RESPONSE: Final = 12_288 + len("\r\n")
"""Octets of a response with its CRLF; RFC 4954 section 4 calls 12,288 in base64 sufficient."""

_HASHER: Final = argon2.PasswordHasher()
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
CHALLENGES: Final = (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n")  # "Username:", "Password:"
EMPTY_CHALLENGE: Final = b"334 \r\n"
_NAMES_OF_MECHANISMS: Final = frozenset(
    b"PLAIN LOGIN CRAM-MD5 DIGEST-MD5 XOAUTH2 OAUTHBEARER EXTERNAL ANONYMOUS NTLM GSSAPI "
    b"SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS".split()
)
"""Mechanism names, which may be shown; anything else after AUTH may be a secret."""

BLANKED: Final = b"********"
"""What is shown in place of a secret."""

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge and returns the client's line, without its CRLF."""


def without_secrets(line: bytes) -> bytes:
    """A command line that is safe to show: AUTH keeps only the mechanism, if it is a known one."""
    command, *words = line.split()[:3] or [b""]
    if command.upper() != b"AUTH":
        return line
    shown = [
        command,
        *(word if word.upper() in _NAMES_OF_MECHANISMS else BLANKED for word in words[:1]),
    ]
    return b" ".join([*shown, *[BLANKED] * len(words[1:])]) + b"\r\n"


def hash_password(password: str) -> str:
    """The argon2id hash to write into the file of users; takes some 50 ms."""
    return _HASHER.hash(password)


class Users:
    """The names and password hashes that AUTH is checked against.

    A check takes some 50 ms and 64 MiB, so it runs in one of two threads kept for that.
    """

    def __init__(self, hashes: Mapping[str, str] | None) -> None:
        """If ``hashes`` is None, every name and password is accepted."""
        self._hashes = hashes
        self._nobody = _hash_like(hashes.values()) if hashes else ""
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="auth")

    @classmethod
    def load(cls, users: Path | Literal["any"]) -> Self:
        """Read a YAML file of ``name: "$argon2id$..."``; raises OSError or ValueError that name the file."""
        if users == "any":
            return cls(None)
        return cls(read_users(users))

    async def check(self, name: str, password: str) -> bool:
        """True if the password is that user's."""
        if self._hashes is None:
            return True
        hashed = self._hashes.get(name)
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._threads, _verify, hashed or self._nobody, password)
        return right and hashed is not None

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)


def _hash_like(hashes: Collection[str]) -> str:
    """A hash with the most common costs, checked for unknown names, so that the time does not reveal them."""
    ((costs, _),) = Counter(map(_costs, hashes)).most_common(1)
    parameters = argon2.extract_parameters(next(hashed for hashed in hashes if _costs(hashed) == costs))
    return argon2.PasswordHasher.from_parameters(parameters).hash("")


def _costs(hashed: str) -> str:
    """The part before salt and hash: ``$argon2id$v=19$m=65536,t=3,p=4``."""
    return hashed.rsplit("$", 2)[0]


def _verify(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except argon2.exceptions.VerificationError:
        return False


async def authenticate(users: Users, mechanism: str, initial: str, ask: Ask) -> tuple[str, bool]:
    """The user's name as the client sent it, and whether the credentials are right; raises `Refusal`."""
    first = initial.encode() if initial else None
    password: str | None
    match mechanism.upper():
        case "PLAIN":
            name, password = await _plain(first, ask)
        case "LOGIN":
            name, password = await _login(first, ask)
        case _:
            raise Refusal(replies.UNKNOWN_MECHANISM)
    return name, bool(name) and password is not None and await users.check(name, password)


async def _plain(initial: bytes | None, ask: Ask) -> tuple[str, str | None]:
    """The name and the password; None for a user who wants to act for another one, which nobody may."""
    response = _decode(await ask(EMPTY_CHALLENGE) if initial is None else initial)
    parts = response.split("\0")
    if len(parts) != 3:
        raise Refusal(replies.BAD_BASE64)
    authorization, name, password = parts
    if authorization not in ("", name):
        return name, None
    return name, password


async def _login(initial: bytes | None, ask: Ask) -> tuple[str, str]:
    name = _decode(await ask(CHALLENGES[0]) if initial is None else initial)
    return name, _decode(await ask(CHALLENGES[1]))


def _decode(response: bytes) -> str:
    if response == b"*":
        raise Refusal(replies.AUTH_CANCELLED)
    if response == b"=":
        return ""
    if not _BASE64.fullmatch(response):
        raise Refusal(replies.BAD_BASE64)
    try:
        return b64decode(response, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Refusal(replies.BAD_BASE64) from None
