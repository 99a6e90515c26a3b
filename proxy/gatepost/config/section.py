"""The base of all sections of rules.yaml."""

from pydantic import (
    BaseModel,
    ConfigDict,
)

__all__ = ["Settings"]


class Settings(BaseModel):
    """Base of all sections: immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, defer_build=True)
