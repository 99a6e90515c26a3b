"""``gatepost token``: what programs send to the web desk instead of a password."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import cli_errors, fail
from gatepost.cli.listing import clock
from gatepost.cli.settings import SettingsFile, gateway_group
from gatepost.file_changes import only_one, replace_text
from gatepost.model.user import Role
from gatepost.printable import printable
from gatepost.units import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatepost.config import LoadedConfig
    from gatepost.config.tokens import Token

    Tokens = Mapping[str, Token]

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the tokens of programs.")

Name = Annotated[str, typer.Argument(help="What it is for; noted where the program changes something.")]


@app.command()
def new(
    name: Name,
    role: Annotated[Role, typer.Option(help="What it may do.")],
    domain: Annotated[
        list[str] | None, typer.Option(help="Only mail to this domain; may be repeated.", metavar="DOMAIN")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="Its time, like 90d; default: until revoked.", metavar="TIME"),
    ] = None,
    config: SettingsFile = Path("rules.yaml"),
) -> None:
    """Make a token and print it, this one time: only its hash is stored, in `web: tokens_file`.

    It is valid at once, without a reload. A program sends it as Authorization: Bearer TOKEN.
    """
    from gatepost.cli.settings import validated  # noqa: PLC0415 - pydantic
    from gatepost.config.desk_user import check_user_name  # noqa: PLC0415 - likewise
    from gatepost.config.tokens import Token, hash_of, new_secret  # noqa: PLC0415 - likewise

    secret = new_secret()
    try:
        check_user_name(name)
        until = datetime.now(UTC) + timedelta(seconds=seconds(expires)) if expires else None
    except ValueError as error:
        raise typer.BadParameter(f"expected {error}") from None
    except OverflowError:
        raise typer.BadParameter("expected a shorter time", param_hint="--expires") from None
    value = {"sha256": hash_of(secret), "role": role, "domains": domain or None, "expires": until}
    token = validated(Token, value, {"domains": "--domain"})

    def added(tokens: "Tokens") -> "Tokens":
        if name in tokens:
            fail(f"there is a token {name!r} already; revoke it first: gatepost token revoke {name}")
        return {**tokens, name: token}

    _change(config, added)
    print(secret)


@app.command("list")
def list_tokens(config: SettingsFile = Path("rules.yaml")) -> None:
    """Show the names of all tokens, and what each may do."""
    from gatepost.config.tokens import read_tokens  # noqa: PLC0415 - pydantic

    with cli_errors():
        try:
            tokens = read_tokens(_file(config))
        except ValueError as error:
            fail(str(error))
    now = datetime.now(UTC)
    for name, token in tokens.items():
        domains = f" of {', '.join(token.domains)}" if token.domains else ""
        word = "expired" if token.expires and token.expires <= now else "until"
        end = f"  {word} {clock(token.expires)}" if token.expires else ""
        print(f"{printable(name)}  {token.role}{domains}{end}")


@app.command()
def revoke(name: Name, config: SettingsFile = Path("rules.yaml")) -> None:
    """Delete a token; it is refused at once, without a reload. Exit status 1 if there is none."""

    def without(tokens: "Tokens") -> "Tokens":
        if name not in tokens:
            fail(f"there is no token {name!r}; there are: {', '.join(tokens) or 'none'}")
        return {other: token for other, token in tokens.items() if other != name}

    _change(config, without)
    print(f"revoked: {printable(name)}")


def _change(config: Path, change: "Callable[[Tokens], Tokens]") -> None:
    from gatepost.config.tokens import read_tokens, tokens_text  # noqa: PLC0415 - pydantic

    with cli_errors():
        loaded = _loaded(config)
        with only_one(_file_of(loaded, config)) as path:
            try:
                changed = change(read_tokens(path))
            except ValueError as error:
                fail(str(error))
            replace_text(path, tokens_text(changed), group=gateway_group(loaded))


def _loaded(config: Path) -> "LoadedConfig":
    from gatepost.config import load  # noqa: PLC0415 - pydantic and YAML

    with cli_errors():
        return load(config)


def _file(config: Path) -> Path:
    return _file_of(_loaded(config), config)


def _file_of(loaded: "LoadedConfig", config: Path) -> Path:
    web = loaded.config.web
    if web is None or web.tokens_file is None:
        fail(f"{config} names no file of tokens, expected for example  web: {{tokens_file: tokens.yaml}}")
    return web.tokens_file
