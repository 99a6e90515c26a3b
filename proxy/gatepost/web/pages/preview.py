"""How HTML of mail is previewed: the reader's choice, for all messages."""

from collections.abc import Mapping
from typing import Literal, Self

from gatepost.values import value
from gatepost.web.view import Colors

__all__ = ["Preview", "read_colors"]

Width = Literal["desktop", "tablet", "phone"]


@value
class Preview:
    """The choice, which the browser keeps in cookies."""

    colors: Colors
    """Those that the mail is to believe in; the desk has its own."""
    width: Width
    """Of the frame."""

    @classmethod
    def of(cls, cookies: Mapping[str, str]) -> Self:
        """The choice of a request; light and as wide as the window where nothing was chosen."""
        width = cookies.get("gatepost-preview-width", "")
        return cls(
            colors=read_colors(cookies.get("gatepost-preview-colors", "")),
            width="phone" if width == "phone" else "tablet" if width == "tablet" else "desktop",
        )


def read_colors(text: str) -> Colors:
    """Light, but for ``dark``."""
    return "dark" if text == "dark" else "light"
