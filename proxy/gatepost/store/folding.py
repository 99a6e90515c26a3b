"""How texts are compared in a search, the same for every store: folded, and then a part of a text."""

import re
import unicodedata

from gatepost.printable import storable
from gatepost.store.query.messages import Words

__all__ = ["folded", "searched_for"]

_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
"""Marks that a writer may leave out: accents of alphabets, and the vowel points of Hebrew and Arabic."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u3040-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7a3\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
"""Thai, Lao, Khmer, Burmese, Japanese, Chinese: scripts without spaces; and Korean, whose words are short."""
_CACHED = 20_000
"""Characters; more are in no honest mail."""


def folded(text: str) -> str:
    """The words of a text, each between two spaces; empty for a text without a letter or digit.

    A word is a run of letters, digits and their marks; all else separates words. In a script without spaces
    each character is a word. Case, accents, and the width and form of a character do not matter: ``GRÖSSE``
    is ``große``, and a ligature is its letters (NFKC and full case folding, Unicode chapters 3.11 and 3.13).
    What is not seen, such as a soft hyphen, is not there.
    """
    text = storable(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))
    words = text.lower().translate(_CHARACTERS).split()
    return f" {' '.join(words)} " if words else ""


def searched_for(words: Words) -> str:
    """What must be a part of a folded text; empty if nothing can be found. Never one or two characters.

    From three letters or digits on they are found anywhere, also within a word. Two begin a word. One is a
    word. With `Words.prefix` they begin a word, however many.
    """
    text = folded(words.text)
    length = len(text) - 2
    if length < 2:
        return text
    return text[:-1] if words.prefix or length == 2 else text[1:-1]


class _Characters(dict[int, str]):
    """What becomes of a character that is in lower case already."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf":
            becomes = ""
        elif not (character.isalnum() or category.startswith("M")):
            becomes = " "
        else:
            becomes = f" {character} " if _UNSPACED.match(character) else character
        if len(self) < _CACHED:
            self[code] = becomes
        return becomes


_CHARACTERS = _Characters()
