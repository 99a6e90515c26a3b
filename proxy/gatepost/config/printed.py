"""The settings as they were read from all places, for people."""

import re
from typing import Any
from urllib.parse import unquote

import yaml

from gatepost.config.rules_file import LoadedConfig

__all__ = ["as_yaml"]

_SECRET = re.compile(r"(.*_)?(password|hash|secret|token|api_?key)", re.IGNORECASE)
"""Keys whose values are secrets, as filters may have them; keys of files have other names."""
_URL = re.compile(r"(https?://)(?:[^/?#]*@)?([^/?#@]*)(.*)", re.IGNORECASE | re.DOTALL)
"""A user with a password, the query and the path of a webhook's URL can be secrets too."""
_SERVER = re.compile(r"postgres(?:ql)?://")
_SECRET_OPTION = re.compile(r"password|secret|scram_")
"""Options of libpq in the URL of a store: that of a client's key may be there."""
_WEBHOOK = "webhook"
_NOT_SHOWN = "(not shown)"


def as_yaml(loaded: LoadedConfig) -> str:
    """The settings in YAML, with included rules and the entries of lists, without secrets."""
    text: str = yaml.safe_dump(_shown(loaded.document.data), sort_keys=False, allow_unicode=True)
    return text


def _shown(value: Any, section: str = "") -> Any:
    match value:
        case dict():
            return {
                key: _NOT_SHOWN
                if _SECRET.fullmatch(key) and not isinstance(inner, dict)
                else _shown(inner, section if section == _WEBHOOK else key)
                for key, inner in value.items()
            }
        case list():
            return [_shown(inner, section) for inner in value]
        case str() if found := _URL.fullmatch(value):
            scheme, host, rest = found.groups()
            path, query, _ = rest.partition("?")
            if section == _WEBHOOK and path not in ("", "/"):
                return f"{scheme}{host}/{_NOT_SHOWN}"
            return f"{scheme}{host}{path}{f'?{_NOT_SHOWN}' if query else ''}"
        case str() if _SERVER.match(value):
            place, mark, options = value.partition("?")
            return f"{place}{mark}{'&'.join(map(_shown_option, options.split('&')))}"
        case _:
            return value


def _shown_option(option: str) -> str:
    name, _, _ = option.partition("=")
    return f"{name}={_NOT_SHOWN}" if _SECRET_OPTION.search(unquote(name)) else option
