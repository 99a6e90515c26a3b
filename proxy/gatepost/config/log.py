"""The section `log`: how log lines are written, and where they go."""

from typing import Any, Literal

from pydantic import model_validator

from gatepost.config.section import Settings

__all__ = ["LogSettings"]


class LogSettings(Settings):
    """The log."""

    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object on each line."""
    to: Literal["stderr", "syslog"] = "stderr"
    """Standard error, or the local syslog daemon (``/dev/log``, facility ``mail``)."""

    @model_validator(mode="before")
    @classmethod
    def _from_format(cls, value: Any) -> Any:
        return {"format": value} if isinstance(value, str) else value
