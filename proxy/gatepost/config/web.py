"""The section `web`: the address of the web desk, and who may use it."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, model_validator

from gatepost.config.certificate import CertificateSettings
from gatepost.config.desk_user import DeskUser
from gatepost.config.fields import (
    File,
    Source,
    at_base,
    check_group,
    first_line,
    is_host_port,
    is_loopback,
    one_or_many,
)
from gatepost.config.forward import ForwardSettings
from gatepost.config.oidc import OidcSettings
from gatepost.config.patterns import expected
from gatepost.config.section import Settings
from gatepost.config.webhook import WebhookSettings

__all__ = ["OpenWebSettings", "WebSettings"]

_UNIX: Final = "unix:"
_BASE_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
_PATH_BYTES: Final = 107
"""The longest path of a Unix socket, unix(7)."""


def _address(value: Any, info: ValidationInfo) -> str:
    """``host:port``, or ``unix:`` with a path; a relative path is relative to rules.yaml."""
    if isinstance(value, str) and value.startswith(_UNIX) and value != _UNIX:
        path = at_base(Path(value.removeprefix(_UNIX)), info)
        if len(os.fsencode(path)) > _PATH_BYTES:
            raise expected(f"a path of at most {_PATH_BYTES} bytes")
        return f"{_UNIX}{path}"
    if not is_host_port(value):
        raise expected("host:port like 127.0.0.1:8025, or unix:/path")
    return str(value)


def _base_path(value: Any) -> str:
    """A path of the web, without the slash at its end; ``/`` becomes empty."""
    if isinstance(value, str) and value.startswith("/") and _BASE_PATH.fullmatch(value.removesuffix("/")):
        return value.removesuffix("/")
    raise expected("a path like /mail/ of letters, digits, '-', '.', '_' and '~'")


class WebSettings(Settings):
    """The web desk."""

    needs_password: ClassVar[bool] = True
    """Whether a password is required if other machines can connect."""

    address: Annotated[str, BeforeValidator(_address)] = "127.0.0.1:8025"
    """``host:port``, where port 0 takes a free one, or ``unix:/path``."""
    socket_group: Annotated[str, AfterValidator(check_group)] | None = None
    """With ``unix:``: the group that may connect too; default: only the gateway's user."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    """Further host names for browsers."""
    base_path: Annotated[str, BeforeValidator(_base_path)] = ""
    """The path under which a proxy serves the desk, like ``/mail``, without a slash at its end."""
    forwarded_from: Annotated[tuple[Source, ...], BeforeValidator(one_or_many)] = ()
    """Proxies whose X-Forwarded-For names the client; default: it is ignored."""
    tls: CertificateSettings | None = None
    """Serve pages and API over HTTPS only, with this certificate."""
    password_file: File | None = None
    """A file whose first line is the password; required if other machines can connect.

    Default for ``serve`` on loopback: a generated one, in a file beside the store.
    """
    users: tuple[DeskUser, ...] = ()
    """Who else may log in; default: nobody."""
    users_file: File | None = None
    """A YAML file of user names and argon2 hashes, which has the passwords of `users`."""
    tokens_file: Annotated[Path, AfterValidator(at_base)] | None = None
    """The YAML file of tokens that ``gatepost token`` writes; default: there are none."""
    oidc: OidcSettings | None = None
    """Where users can log in with OpenID Connect; default: nowhere."""
    forward: ForwardSettings | None = None
    """The server to which a message can be forwarded; default: messages cannot be forwarded."""

    webhook: WebhookSettings | None = None
    """Where each new message is reported; default: nowhere."""

    @model_validator(mode="before")
    @classmethod
    def _from_address(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.socket_group and not self.socket:
            raise ValueError("socket_group without a Unix socket, expected address: unix:/path")
        host = self.address.rpartition(":")[0].strip("[]")
        open_to_others = not self.socket and not is_loopback(host)
        has_login = self.password_file or self.users or self.oidc
        if not has_login and self.needs_password and open_to_others:
            raise ValueError(
                f"{self.address!r} is open to other machines without a password, "
                "expected password_file, users or oidc"
            )
        if self.password == "":
            raise ValueError(f"no password in {self.password_file}, expected one on its first line")
        return self

    @model_validator(mode="after")
    def _has_passwords(self) -> Self:
        if (self.users_file is None) != (not self.users):
            have, need = ("users", "users_file") if self.users else ("users_file", "users")
            raise ValueError(f"{have} without {need}, expected both: names with roles, and their passwords")
        names = [user.name for user in self.users]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the user {twice!r} twice in users, expected each name once")
        return self

    @model_validator(mode="after")
    def _comes_back(self) -> Self:
        if self.oidc and (problem := self.oidc.callback_problem(self.base_path)):
            raise ValueError(problem)
        return self

    @property
    def socket(self) -> Path | None:
        """The path of the Unix socket; None: it listens on a TCP port."""
        return Path(self.address.removeprefix(_UNIX)) if self.address.startswith(_UNIX) else None

    @property
    def host_names(self) -> tuple[str, ...]:
        """Further host names for browsers: `hosts`, and that of `OidcSettings.redirect_uri`."""
        return (*self.hosts, *((self.oidc.host,) if self.oidc else ()))

    @property
    def password(self) -> str | None:
        """The current password in `password_file`; None: no password. Raises OSError and ValueError."""
        return first_line(self.password_file) if self.password_file else None


class OpenWebSettings(WebSettings):
    """A web desk without a password wherever it listens; only an option of ``complaints`` asks for it."""

    needs_password = False
