"""Which of the settings' secret files other users of the machine can read."""

import stat
from collections.abc import Iterator
from pathlib import Path

from gatepost.config import LoadedConfig, Problem
from gatepost.config.document import Location

__all__ = ["exposed_files"]

_OF_FILTERS = ("password_file", "token_file", "secret_file")
"""What filters call a setting that names a file with a secret."""
_WITH_KEYS = ("dkim_sign", "arc_seal")
"""Filters whose settings named ``file`` are private keys."""


def exposed_files(loaded: LoadedConfig) -> list[Problem]:
    """Warnings of keys, password files and files of users that every user of the machine can read."""
    return [
        loaded.problem(
            location,
            f"every user of this machine can read {file}",
            f"a file that only its owner and group can read: chmod o= {file}",
        )
        for location, file in _secrets(loaded)
        if _is_open(file.absolute())
    ]


def _secrets(loaded: LoadedConfig) -> Iterator[tuple[Location, Path]]:
    config = loaded.config
    for number, listener in enumerate(config.listen):
        if listener.tls:
            yield ("listen", number, "tls", "key"), listener.tls.key
        if listener.auth and listener.auth.users != "any":
            yield ("listen", number, "auth", "users"), listener.auth.users
    for section, settings in (("store", config.store), ("state", config.state)):
        if settings.password_file:
            yield (section, "password_file"), settings.password_file
    for number, rule in enumerate(config.rules):
        names = (*_OF_FILTERS, "file") if rule.filter in _WITH_KEYS else _OF_FILTERS
        for location, name in _named(rule.with_, names):
            yield ("rules", number, "with", *location), loaded.base / name
    for place, server in config.upstream_servers():
        if server.auth:
            yield (*place, "auth", "password_file"), server.auth.password_file
    if config.web and config.web.tls:
        yield ("web", "tls", "key"), config.web.tls.key
    if config.web and config.web.password_file:
        yield ("web", "password_file"), config.web.password_file
    if config.web and config.web.users_file:
        yield ("web", "users_file"), config.web.users_file
    if config.web and config.web.tokens_file:
        yield ("web", "tokens_file"), config.web.tokens_file
    if config.web and config.web.oidc:
        yield ("web", "oidc", "client_secret_file"), config.web.oidc.client_secret_file
    if config.web and config.web.webhook and config.web.webhook.secret_file:
        yield ("web", "webhook", "secret_file"), config.web.webhook.secret_file


def _named(settings: object, names: tuple[str, ...]) -> Iterator[tuple[Location, str]]:
    """Where settings of a filter with one of these names are, and their text."""
    if isinstance(settings, dict):
        entries: list[tuple[str | int, object]] = [*settings.items()]
    elif isinstance(settings, list):
        entries = [*enumerate(settings)]
    else:
        return
    for key, value in entries:
        if key in names and isinstance(value, str):
            yield (key,), value
        for location, text in _named(value, names):
            yield (key, *location), text


def _is_open(file: Path) -> bool:
    """True if others may read the file and enter every folder above it."""
    try:
        return bool(file.stat().st_mode & stat.S_IROTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in file.resolve().parents
        )
    except OSError:  # a folder that this process may not enter either
        return False
