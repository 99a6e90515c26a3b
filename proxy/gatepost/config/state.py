"""The section `state`: where filters remember what outlives a restart, and how much."""

import importlib.util
import re
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, ValidationInfo, model_validator

from gatepost.config.fields import Count, File, at_base, check_authorities, first_line
from gatepost.config.section import Settings

__all__ = ["StateSettings"]

_PORTS: Final = range(1, 65536)
_URL: Final = re.compile(
    r"(?:(?:redis|valkey)(?P<tls>s?)://(?P<rest>(?:(?:[^\s:@/?#\[\]]+)@)?(?:[^\s:@/?#\[\]]+|\[[0-9a-fA-F:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[0-9]{0,5})?)|unix:///[^\s?#]+(?:\?db=[0-9]{1,5})?)"
)


def _server(value: str, info: ValidationInfo) -> str:
    """The URL as redis-py reads it. Errors do not show a wrong one: it may hold a password."""
    found = _URL.fullmatch(value)
    if not found or (found["port"] and int(found["port"]) not in _PORTS):
        raise ValueError(
            "not the URL of a server, expected one like redis://127.0.0.1:6379/0, "
            "rediss://HOST:PORT/NUMBER (TLS) or unix:///run/redis/redis.sock, and a password in password_file"
        )
    if info.context and importlib.util.find_spec("redis") is None:
        raise ValueError("redis is not installed, expected: pip install 'gatepost[redis]'")
    return f"redis{found['tls']}://{found['rest']}" if found["rest"] else value


def _has_user(url: str) -> bool:
    return "@" in url and not url.startswith("unix:")


class StateSettings(Settings):
    """The memory of filters."""

    path: Annotated[Path, AfterValidator(at_base)] | None = None
    """An SQLite file; default: beside the store."""
    max_entries: Count = 1_000_000
    """Values and counts in the file; beyond it those that end first are forgotten."""
    url: Annotated[str, AfterValidator(_server)] | None = None
    """A Redis or Valkey server instead of the file, like ``redis://127.0.0.1:6379/0``."""
    password_file: File | None = None
    """A file whose first line is the password of the server."""
    ca: Annotated[File, AfterValidator(check_authorities)] | None = None
    """With ``rediss://``: PEM file of authorities to trust beside the system's."""

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if self.url and (wrong := self.model_fields_set & {"path", "max_entries"}):
            raise ValueError(f"url and {min(wrong)}, expected one of them: a server limits its own memory")
        if self.password_file and not self.url:
            raise ValueError("password_file without url, expected the URL of a server")
        if self.ca and not (self.url or "").startswith("rediss:"):
            raise ValueError("ca without TLS, expected a url that begins with rediss://")
        if self.url and _has_user(self.url) and not self.password_file:
            raise ValueError("a user in url without a password, expected password_file")
        if self.read_password() == "":
            raise ValueError(f"no password in {self.password_file}, expected one on its first line")
        return self

    def read_password(self) -> str | None:
        """The password in `password_file`; None: the server asks for none. Raises OSError and ValueError."""
        return first_line(self.password_file) if self.password_file else None
