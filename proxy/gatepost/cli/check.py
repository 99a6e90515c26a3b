"""``gatepost check``: check a settings file."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import USAGE
from gatepost.cli.output import own_stdout
from gatepost.cli.settings import SettingsFile
from gatepost.process.privileges import drop_privileges

if TYPE_CHECKING:
    from gatepost.config import LoadedConfig, Problem

__all__ = ["Found", "check", "examined", "print_found"]


def check(
    config: SettingsFile = Path("rules.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    as_read: Annotated[
        bool, typer.Option("--print", help="Print the settings as they were read, as YAML, without secrets.")
    ] = False,
) -> None:
    """Check a settings file and print every error in it with its line and column.

    The settings may be a folder: all files *.yaml in it together. Variables of the environment that begin
    with GATEPOST_SET_ replace what the files have: GATEPOST_SET_STORE__URL is url in store.

    Exit status 2 if there are errors, else 0. Warnings do not change the exit status: a pattern that can
    never match, a certificate that is not valid or expires within 21 days, a secret that all users can read.

    A PostgreSQL server of the store is asked whether its database can be used, if it answers.

    Filters are imported and made, with the time that a reload has (`limits.reload_time`).

    If root runs it and the settings have a user, that user must be able to read the files named there.
    """
    from gatepost.config.printed import as_yaml  # noqa: PLC0415 - YAML is slow to import

    if as_json and as_read:
        raise typer.BadParameter("--json and --print, expected one of them", param_hint="--print")
    with own_stdout() as stdout:
        found = examined(config, asks=True)
        if as_json:
            told = {
                "ok": not found.problems,
                "problems": [_plain(problem) for problem in found.problems],
                "warnings": [_plain(warning) for warning in found.warnings],
                "rules": found.rules,
            }
            print(json.dumps(told), file=stdout)
        else:
            print_found(found)
            if found.loaded and as_read:
                print(as_yaml(found.loaded), end="", file=stdout)
            elif found.loaded and not found.problems:
                print(f"{config}: ok: {_summary(found.loaded)}", file=stdout)
    if found.problems:
        raise typer.Exit(USAGE)


@dataclass(slots=True, kw_only=True)
class Found:
    """What a check has found; problems and warnings are in the order of the file."""

    loaded: "LoadedConfig | None"
    """None: the settings have errors."""
    problems: list["Problem"]
    warnings: list["Problem"] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    """The names of those that could be made."""


def examined(config: Path, *, asks: bool = False) -> Found:
    """Check a settings file, its rules and the files that it names; with ``asks`` the store on a server too.

    Root becomes the user in the settings first, if there is one.
    """
    from gatepost.config import examine  # noqa: PLC0415 - pydantic is slow to import
    from gatepost.config.problems import in_order  # noqa: PLC0415 - likewise
    from gatepost.process.expiry import certificate_warnings  # noqa: PLC0415 - likewise
    from gatepost.process.exposure import exposed_files  # noqa: PLC0415 - likewise
    from gatepost.process.hold_warnings import hold_warnings  # noqa: PLC0415 - likewise

    read = examine(config)
    if (loaded := read.usable) and loaded.config.user and os.geteuid() == 0:
        drop_privileges(loaded.config.user, loaded.config.group)
        read = examine(config)
    found = Found(loaded=read.usable, problems=list(read.problems))
    if loaded := read.usable:
        found.warnings += (*loaded.warnings, *certificate_warnings(loaded), *exposed_files(loaded))
        if not found.problems:  # one may be about the web desk
            found.warnings += hold_warnings(loaded)
        _check_rules(loaded, found)
        _check_files(loaded, found, asks=asks)
    found.problems, found.warnings = [*in_order(found.problems)], [*in_order(found.warnings)]
    return found


def print_found(found: Found) -> None:
    """Print problems and warnings to standard error, one on each line."""
    for line in (*found.problems, *(replace(one, what=f"warning: {one.what}") for one in found.warnings)):
        print(line, file=sys.stderr)


def _check_rules(loaded: "LoadedConfig", found: Found) -> None:
    """Make the rules within the time that a reload has; a filter that hangs is a problem at its place."""
    from gatepost.pipeline.loading import overdue  # noqa: PLC0415 - pydantic is slow to import

    checking = _RuleCheck(loaded)
    seconds = loaded.config.limits.reload_time
    thread = threading.Thread(target=checking, name="gatepost-check", daemon=True)
    thread.start()
    thread.join(seconds)
    done, error = checking.done.copy(), checking.error
    if error:
        raise error
    for problems, warnings, rule in done:
        found.problems += problems
        found.warnings += warnings
        found.rules += rule
    if len(done) < len(loaded.config.rules):
        expected = "an import and a constructor that end"
        found.problems.append(overdue(loaded, len(done), thread.ident or 0, seconds, expected))


class _RuleCheck:
    """Makes each rule, in a thread; what its filter logs meanwhile is a warning at its place."""

    def __init__(self, loaded: "LoadedConfig") -> None:
        self._loaded = loaded
        self.done: list[tuple[list[Problem], list[Problem], list[str]]] = []
        """Of each rule: problems, warnings, and its name if it could be made."""
        self.error: BaseException | None = None

    def __call__(self) -> None:
        """Make them; for the thread."""
        try:
            self._make()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.error = error

    def _make(self) -> None:
        from gatepost.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import
        from gatepost.pipeline.closing import close_now  # noqa: PLC0415 - likewise
        from gatepost.pipeline.loader import try_rules  # noqa: PLC0415 - likewise

        with _logged() as messages:
            for number, made in enumerate(try_rules(self._loaded)):
                place = ("rules", number, "filter")
                warnings = [self._loaded.problem(place, message) for message in messages]
                messages.clear()
                if isinstance(made, ConfigError):
                    self.done.append(([*made.problems], warnings, []))
                else:
                    close_now([made])
                    self.done.append(([], warnings, [made.name]))


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect what is logged, of warnings and errors, instead of printing it."""
    messages: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collecting(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger().removeHandler(handler)


def _check_files(loaded: "LoadedConfig", found: Found, *, asks: bool) -> None:
    """Check the files that serve opens at its start."""
    from gatepost.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import
    from gatepost.config.fields import store_file  # noqa: PLC0415 - likewise
    from gatepost.pipeline.provided import state_file  # noqa: PLC0415 - likewise

    web = loaded.config.web
    files = {
        ("store", "url"): store_file(loaded.config.store.url),
        ("state", "path"): loaded.config.state.path,
        ("pid_file",): loaded.config.pid_file,
        ("web", "address"): web and web.socket,
    }
    found.problems += [
        loaded.problem(place, f"the folder {file.parent} does not exist", "a file in a folder that exists")
        for place, file in files.items()
        if file and not file.parent.is_dir()
    ]
    _check_store(loaded, found, asks=asks)
    state = state_file(loaded)
    if (
        not loaded.config.state.url
        and state.exists()
        and not (state.is_file() and os.access(state, os.R_OK | os.W_OK))
    ):
        what = f"{state} is not a file that can be read and written"
        found.problems.append(loaded.problem(("state", "path"), what))
    if (web and (web.tls or web.users or web.tokens_file)) or any(
        listener.tls or listener.auth for listener in loaded.config.listen
    ):
        from gatepost.server import check_named_files  # noqa: PLC0415 - only where there is something to read

        try:
            check_named_files(loaded)
        except ConfigError as error:
            found.problems += error.problems


def _check_store(loaded: "LoadedConfig", found: Found, *, asks: bool) -> None:
    """Check the URL of a server, and ask a server that answers whether its database can be used."""
    settings = loaded.config.store
    if settings.url.startswith("sqlite:"):
        return
    from gatepost.store import StoreError, check_store  # noqa: PLC0415 - SQLAlchemy is slow to import

    try:
        check_store(settings, asks=asks)
    except StoreError as error:
        found.problems.append(loaded.problem(("store", "url"), str(error)))


def _plain(problem: "Problem") -> dict[str, str | int]:
    return {
        "path": str(problem.path),
        "line": problem.line,
        "column": problem.column,
        "what": problem.what,
        "expected": problem.expected,
    }


def _summary(loaded: "LoadedConfig") -> str:
    config = loaded.config
    routes = _count(len(config.relay), "route") + ("" if config.relay else " (every recipient is refused)")
    parts = (
        _count(len(config.listen), "listener"),
        routes,
        _count(len(config.rules), "rule"),
        _count(len(config.lists), "list"),
        *_desk(loaded),
    )
    return ", ".join(parts)


def _desk(loaded: "LoadedConfig") -> Iterator[str]:
    """The web desk, if there is one, and what guards it."""
    from gatepost.process.desk_password import desk_password_file  # noqa: PLC0415 - not for --help

    web = loaded.config.web
    if web and web.oidc:
        yield f"single sign-on by {web.oidc.issuer}"
    if web and web.password_file:
        yield f"web desk with the password in {web.password_file}"
    elif web and web.users:
        yield f"web desk with {_count(len(web.users), 'user')}"
    elif web and web.socket:
        yield f"web desk at {web.address}"
    elif web:
        yield f"web desk with the generated password in {desk_password_file(loaded)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
