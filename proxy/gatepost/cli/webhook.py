"""The options that name the URL to which the web desk reports new messages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.settings import validated

if TYPE_CHECKING:
    from gatepost.config.webhook import WebhookSettings

__all__ = ["WebhookSecretFile", "WebhookTo", "webhook_settings"]

WebhookTo = Annotated[
    str | None,
    typer.Option(
        "--webhook",
        help="URL that gets a POST with a JSON summary of each new message: http://HOST/PATH or "
        "https://HOST/PATH.",
        metavar="URL",
    ),
]
WebhookSecretFile = Annotated[
    Path | None,
    typer.Option(
        help="File whose first line is the secret to sign these requests with, in base64.", metavar="FILE"
    ),
]


def webhook_settings(url: str | None, secret_file: Path | None) -> "WebhookSettings | None":
    """The settings from the options; None if there is no URL. Raises typer.BadParameter."""
    if url is None:
        if secret_file:
            raise typer.BadParameter("needs --webhook URL", param_hint="--webhook-secret-file")
        return None
    from gatepost.config.webhook import WebhookSettings  # noqa: PLC0415 - slow to import

    options = {"url": "--webhook", "secret_file": "--webhook-secret-file"}
    return validated(WebhookSettings, {"url": url, "secret_file": secret_file}, options)
