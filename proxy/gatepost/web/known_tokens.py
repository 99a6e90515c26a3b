"""The tokens that the desk accepts now: the file is read again when it has changed."""

import hmac
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from gatepost.config.tokens import Token, hash_of, read_tokens
from gatepost.model.user import User

__all__ = ["KnownTokens"]

log = logging.getLogger(__name__)


class KnownTokens:
    """The tokens of one file; for one event loop. A token that was revoked is refused at once."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._now = now
        self._seen: object = None
        self._tokens: Mapping[str, Token] = {}

    def user(self, secret: str) -> User | None:
        """The user whose token this is; None for an unknown, revoked or expired one."""
        self._look()
        given = hash_of(secret)
        for name, token in self._tokens.items():
            if hmac.compare_digest(token.sha256, given):
                is_over = token.expires is not None and token.expires <= self._now()
                return None if is_over else token.user(name)
        return None

    def _look(self) -> None:
        """Read the file if it has changed; one that cannot be read has no tokens."""
        try:
            found = self._path.stat()
            seen: object = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        except OSError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._tokens = read_tokens(self._path)
        except (OSError, ValueError) as error:
            self._tokens = {}
            log.error("the web desk accepts no token: %s", error)  # noqa: TRY400 - its text says it all
