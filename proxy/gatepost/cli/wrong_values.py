"""Wrong values of options and arguments, in our words instead of a library's."""

from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["PlainGroup", "in_plain_words"]


class PlainGroup(TyperGroup):
    """The root of the commands: what is wrong with an option is said in plain words."""

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 - as the base class
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            in_plain_words(error)
            raise


def in_plain_words(error: typer.BadParameter) -> None:
    """Say what was found and expected, where typer has pydantic's message."""
    if error.__cause__ is None:
        return
    from pydantic import ValidationError  # noqa: PLC0415 - slow to import; here it is loaded already

    if isinstance(error.__cause__, ValidationError):
        from gatepost.config.validation import in_words  # noqa: PLC0415 - likewise

        error.message = in_words(error.__cause__).removesuffix(".")
        error.__cause__ = None  # it is said
