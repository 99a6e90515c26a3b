"""The settings of a command: the option that names their file, and those that options set themselves."""

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from gatepost.config import LoadedConfig
    from gatepost.config.section import Settings

__all__ = ["SettingsFile", "gateway_group", "validated"]

S = TypeVar("S", bound="Settings")
SettingsFile = Annotated[
    Path, typer.Option("--config", "-c", help="The settings file, or a folder of them.", metavar="FILE")
]


def validated(model: type[S], value: Any, options: Mapping[str, str]) -> S:
    """The value as settings; raises typer.BadParameter that names the option.

    Args:
        model: the section.
        value: what rules.yaml would have there; files are relative to the current folder.
        options: the option that sets each key; the first one is named if no key is at fault.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - slow to import

    from gatepost.config.validation import mistakes_in  # noqa: PLC0415 - likewise

    try:
        return model.model_validate(value, context={"base": Path.cwd()})
    except ValidationError as error:
        mistake = next(mistakes_in(error, model))
        keys = [str(part) for part in mistake.location if str(part) in options]
        expected = f", expected {mistake.expected}" if mistake.expected else ""
        raise typer.BadParameter(
            f"{mistake.what}{expected}",
            param_hint=options[keys[-1]] if keys else next(iter(options.values())),
        ) from None


def gateway_group(loaded: "LoadedConfig") -> int | None:
    """The group of the gateway, which must read a file that root makes; None for others than root.

    Without a user in the settings, as with systemd, the store belongs to the gateway.
    """
    from gatepost.config.fields import store_file  # noqa: PLC0415 - pydantic

    if os.geteuid() != 0:
        return None
    user, group = loaded.config.user, loaded.config.group
    if group:
        return grp.getgrnam(group).gr_gid
    if user:
        return pwd.getpwnam(user).pw_gid
    store = loaded.base / store_file(loaded.config.store.url)
    owner = store.stat() if store.exists() else None
    return owner.st_gid if owner and owner.st_uid else None
