"""Settings that options of a command set, checked as in rules.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from gatepost.config.section import Settings

__all__ = ["validated"]

S = TypeVar("S", bound="Settings")


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
