"""The files that listeners and the web desk name, read to find mistakes before they are used."""

from collections.abc import Callable, Iterator
from functools import partial

from gatepost.config import ConfigError, LoadedConfig, Problem
from gatepost.config.document import Location
from gatepost.config.listen import ListenerAuth
from gatepost.config.settings import Config
from gatepost.config.tokens import read_tokens
from gatepost.server.auth import Users
from gatepost.server.desk_users import desk_hashes
from gatepost.server.endpoint import tls_context

__all__ = ["check_named_files"]


def check_named_files(loaded: LoadedConfig) -> None:
    """Read certificates, keys, users and tokens; raises ConfigError with the problems of all of them."""
    problems: list[Problem] = []
    for place, read in _readers(loaded.config):
        try:
            read()
        except (OSError, ValueError) as error:
            problems.append(loaded.problem(place, str(error)))
    if problems:
        raise ConfigError(problems)


def _readers(config: Config) -> Iterator[tuple[Location, Callable[[], object]]]:
    """Each file's place in the settings, and what reads it."""
    for number, listener in enumerate(config.listen):
        if listener.tls:
            yield ("listen", number, "tls"), partial(tls_context, listener.tls)
        if listener.auth:
            yield ("listen", number, "auth", "users"), partial(_read_users, listener.auth)
    if config.web:
        if config.web.tls:
            yield ("web", "tls"), partial(tls_context, config.web.tls)
        yield ("web", "users_file"), partial(desk_hashes, config.web)
        if config.web.tokens_file:
            yield ("web", "tokens_file"), partial(read_tokens, config.web.tokens_file)


def _read_users(auth: ListenerAuth) -> None:
    Users.load(auth.users).close()
