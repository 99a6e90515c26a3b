"""The options that name the server to which the web desk forwards messages."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatepost.cli.settings import validated

if TYPE_CHECKING:
    from gatepost.config.forward import ForwardSettings

__all__ = [
    "ForwardCa",
    "ForwardFrom",
    "ForwardOnly",
    "ForwardPasswordFile",
    "ForwardTls",
    "ForwardTo",
    "ForwardUser",
    "ForwardVerify",
    "TlsToServer",
    "forward_settings",
]


class TlsToServer(StrEnum):
    """As `tls` of a server in `relay`."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    IMPLICIT = "implicit"


ForwardTo = Annotated[
    str | None,
    typer.Option(
        help="Mail server to which the web desk and the API may forward a message: smtp://HOST:PORT or "
        "smtps://HOST:PORT. Nothing is sent unless somebody forwards it.",
        metavar="URL",
    ),
]
ForwardTls = Annotated[
    TlsToServer | None,
    typer.Option(
        help="TLS to that server. opportunistic (default for smtp): STARTTLS if offered; required: STARTTLS "
        "with a valid certificate; implicit (default for smtps); none."
    ),
]
ForwardCa = Annotated[
    Path | None,
    typer.Option(help="PEM file of the authorities to trust for its certificate.", metavar="FILE"),
]
ForwardVerify = Annotated[
    bool, typer.Option("--forward-verify/--forward-no-verify", help="Verify its certificate.")
]
ForwardUser = Annotated[str | None, typer.Option(help="User name for AUTH to that server.", metavar="NAME")]
ForwardPasswordFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the password for it.", metavar="FILE")
]
ForwardFrom = Annotated[
    str | None,
    typer.Option(help="Sender (MAIL FROM) of forwarded mail; default: the message's.", metavar="ADDRESS"),
]
ForwardOnly = Annotated[
    list[str] | None,
    typer.Option(
        help="Forward only to these recipients, for example '*@example.com'; may be repeated.",
        metavar="PATTERN",
    ),
]
_OPTIONS = {
    "to": "--forward-to",
    "tls": "--forward-tls",
    "ca": "--forward-ca",
    "username": "--forward-user",
    "password_file": "--forward-password-file",
    "sender": "--forward-from",
    "recipients": "--forward-only",
}
"""The option that sets each setting; the first one is named if no setting is."""


def forward_settings(
    to: str | None,
    *,
    tls: TlsToServer | None,
    ca: Path | None,
    verify: bool,
    user: str | None,
    password_file: Path | None,
    sender: str | None,
    only: list[str] | None,
) -> "ForwardSettings | None":
    """The settings from the options; None if there is no server. Raises typer.BadParameter."""
    if to is None:
        others = (tls, ca, not verify, user, password_file, sender, only)
        names = ("tls", "ca", "no-verify", "user", "password-file", "from", "only")
        if lost := [f"--forward-{name}" for name, value in zip(names, others, strict=True) if value]:
            raise typer.BadParameter("needs --forward-to smtp://HOST:PORT", param_hint=lost[0])
        return None
    if (user is None) != (password_file is None):
        have, need = ("user", "password-file") if user else ("password-file", "user")
        raise typer.BadParameter(f"needs --forward-{need} too", param_hint=f"--forward-{have}")
    from gatepost.config.forward import ForwardServer, ForwardSettings  # noqa: PLC0415 - slow to import

    server = validated(ForwardServer, to, _OPTIONS)
    options: dict[str, Any] = {"tls": tls.value if tls else server.tls, "verify": verify, "ca": ca}
    if user is not None:
        options["auth"] = {"username": user, "password_file": password_file}
    given = {"to": [{"host": server.host, "port": server.port, **options}], "sender": sender}
    return validated(ForwardSettings, {**given, "recipients": only} if only else given, _OPTIONS)
