"""The base of all responses of the API, and text that JSON allows."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["Answer", "Text"]


def _encodable(text: object) -> object:
    """JSON allows no lone surrogates."""
    if isinstance(text, str) and not text.isascii():
        return text.encode("utf-8", "replace").decode()
    return text


Text = Annotated[str, BeforeValidator(_encodable)]


class Answer(BaseModel):
    """Built from the internal value of the same meaning."""

    # Its schema is made when the first answer is: an idle desk has none in its memory.
    model_config = ConfigDict(from_attributes=True, frozen=True, defer_build=True)
