"""Commands whose options environment variables set too."""

import os
from typing import Any

import typer
from typer.core import TyperCommand

from gatepost.cli.wrong_values import in_plain_words

__all__ = ["CommandWithVariables"]


class CommandWithVariables(TyperCommand):
    """A command whose errors name the variable that a wrong value comes from.

    The context setting ``auto_envvar_prefix`` names the variables: the prefix and the option's name.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: D102 - as the base class
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            in_plain_words(error)
            if error.param and (source := ctx.get_parameter_source(error.param.name)):
                variable = f"{ctx.auto_envvar_prefix}_{str(error.param.name).upper()}"
                if source.name == "ENVIRONMENT":
                    error.message = f"{error.message} (from {variable}={os.environ[variable]!r})"
            raise
