"""One-time codes in a message, for test suites that sign up or sign in."""

import re
import unicodedata
from itertools import chain, islice

__all__ = ["find_codes"]

_TEXT_LIMIT = 64 << 10
"""Characters that are searched; the mail that carries a code is short."""
_CODES_LIMIT = 10
_CANDIDATES_LIMIT = 500
"""That are weighed; a table of numbers has more."""
_NEAR = 80
"""Characters before a code in which a word for it counts."""
_AFTER = 50

_URL = re.compile(r"\b(?:https?://|www\.|mailto:)\S++|\S{1,64}@\S{1,255}", re.IGNORECASE)
_CANDIDATE = re.compile(
    r"""(?<![\w.,:/\#$€£¥+&=%-])(?<!\d[ .-])(?<!\)\ )
    (?: (?P<cells>[A-Z0-9](?:[ ]{0,9}[\n|\t ][\n|\t ]{0,9}[A-Z0-9]){3,7}(?![A-Za-z0-9]))
      | (?P<digits>\d{3}(?:[ -]\d{3}){1,2} | \d{4}(?:[ -]\d{4}){1,2} | \d{2}(?:[ -]\d{2}){2,3}
          | \d{5}(?:[ -]\d{5}){1,3} | \d{6}(?:[ -]\d{6}){1,7} | \d(?:-\d){3,7} | \d{4,8})
      | (?: (?P<letters>[A-Z]{3,5}(?:-[A-Z]{3,5}){1,3})
          | (?P<prefixed>[A-Z]{1,3}(?:-\d{4,8}|(?:-\d{3}){2}))
          | (?P<mixed>(?=[A-Z0-9-]{0,70}\d)(?=[A-Z0-9-]{0,70}[A-Z])
              (?:[A-Z0-9]{4,12}|[A-Z0-9]{3,8}(?:-[A-Z0-9]{3,8}){1,7}))
          | (?P<lower>(?=[a-zA-Z]{0,11}\d)(?=\d{0,11}[a-zA-Z])[a-zA-Z0-9]{5,12})
          | (?P<lower_groups>(?=[a-z-]{0,24}\d)(?=[\d-]{0,24}[a-z])[a-z0-9]{4,6}(?:-[a-z0-9]{4,6}){1,3})
        )(?!-[A-Za-z0-9]) # a part of a code is no code
    )
    (?![\w@%$€£¥])(?![.,:/-]\d)(?![ -]\d)(?!\ ?(?:EUR|USD|GBP|CHF|kr|zł)\b)""",
    re.VERBOSE,
)
_WORD = re.compile(
    r"""\b(?:(?:[\w-]*(?:code|kode|kod|koodi|codes))|c[oó]digo|codice|c[oô]d|k[oó]d[uy]?|pin|otp|tan|mtan|totp|2fa|mfa|
    pass-?code|passwor[dt]|one-time|token|verif\w*|v[eé]rif\w*|best[aä]tig\w*|einmal\w*|sicherheits\w*|
    confirm\w*|authenti\w*|sign-?in|log-?in|jednoraz\w*|engangs\w*|clave|contrase[nñ]a|mot\ de\ passe|
    weryfik\w*|potvr\w*|doğrulama|şifre|wachtwoord|bekr[aæä]ft\w*|vahvist\w*|ellenőrz\w*)\b
    |код\w*|пароль|подтвержд\w*|κωδικ\w*|קוד|رمز|验证码|驗證碼|校验码|动态码|認證碼|認証コード|確認コード|検証コード|コード|
    ワンタイム|인증\s?번호|인증\s?코드|코드|รหัส|mã\b""",
    re.IGNORECASE | re.VERBOSE,
)
_OTHER_NUMBER = re.compile(
    r"""\b(?:order|invoice|account|customer|ticket|case|reference|ref|tracking|phone|tel|fax|call|zip|postal|plz|
    iban|vat|ust|hrb|bestell\w*|rechnung\w*|kunden\w*|auftrag\w*|telefon\w*|commande|facture|client|pedido|factura|
    error|http|status|suite|street|box|copyright|rfc|version|build)\b\W*(?:\w+\W+){0,2}\Z|©\s*\Z""",
    re.IGNORECASE | re.VERBOSE,
)
_INTRODUCED = re.compile(
    r"(?:[:\uff1a=>]|\bis|\bist|\best|\bes|\bè|\bé|\bär|は|是|为|為|:)\s*[*\"'`«“\[(]*\s*\Z", re.IGNORECASE
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_SEPARATORS = re.compile(r"[ -]")
_CELL_BORDERS = re.compile(r"[ \t\n|]+")
_LIKE_OTHERS = str.maketrans(
    dict.fromkeys("\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff")
)
"""Spaces, hyphens, and what is not seen, as they are written in a terminal."""


def find_codes(subject: str, text: str, hidden: str = "") -> tuple[str, ...]:
    """What looks like a one-time code, the likeliest first, without the spaces in it; at most ten.

    Digits are ASCII, also where the message has those of another script.

    A code that only ``hidden`` has, which a reader does not see, comes after all others.
    """
    found = _codes(f"{subject}\n\n{text}"), _codes(hidden)
    return tuple(dict.fromkeys(chain(*found)))[:_CODES_LIMIT]


def _codes(text: str) -> list[str]:
    searched = _URL.sub(" ", text[:_TEXT_LIMIT].translate(_LIKE_OTHERS))
    scores: dict[str, int] = {}
    for found in islice(_CANDIDATE.finditer(searched), _CANDIDATES_LIMIT):
        if (score := _score(searched, found)) > 0:
            code = _as_typed(found)
            scores[code] = max(score, scores.get(code, 0)) + (1 if code in scores else 0)
    return sorted(scores, key=lambda code: -scores[code])


def _as_typed(found: re.Match[str]) -> str:
    """A person types ASCII digits alone, but the hyphens between letters."""
    if found["cells"]:
        return _CELL_BORDERS.sub("", found[0])
    code = _SEPARATORS.sub("", found[0]) if found["digits"] else found[0]
    return code if code.isascii() else "".join(str(unicodedata.decimal(char, char)) for char in code)


def _score(text: str, found: re.Match[str]) -> int:
    """How likely it is a code; nothing or less: it is none."""
    start, end = found.span()
    before = text[max(start - _NEAR, 0) : start]
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line = text[line_start : line_end if line_end >= 0 else len(text)].strip(" *#>\"'`[]()|:\t")
    alone = line == found[0] or "\n" in found[0]
    introduced = bool(_INTRODUCED.search(before[-20:]))
    word_before = _last_word(before)
    word_after = _WORD.search(text, end, end + _AFTER)
    score = 0
    if word_before is not None:
        score += 6 - word_before // 20
        score += 3 if introduced else 0
    if word_after:
        score += 3 if "\n" not in text[end : word_after.start()] else 1
    if alone:
        score += 3
    if _OTHER_NUMBER.search(before[-40:]):
        score -= 8
    if found["cells"]:
        code = _as_typed(found)
        has_digit = any(map(str.isdigit, code))
        return score + (code.isdigit() and len(code) == 6) - (3 if has_digit else 6)
    if found["letters"]:
        return score - (5 if alone or word_before is not None else 9)
    if found["digits"]:
        score += 1 if len(_SEPARATORS.sub("", found[0])) == 6 else 0
        if _YEAR.fullmatch(found[0]) and not (alone and word_before is not None):
            score -= 0 if word_before is not None and word_before < 12 and introduced else 8
        return score - 3
    if found["prefixed"]:
        return score - 2
    return score - (5 if found["mixed"] else 6)


def _last_word(before: str) -> int | None:
    """How many characters before the code the nearest word for one ends."""
    distance = None
    for word in _WORD.finditer(before):
        distance = len(before) - word.end()
    return distance
