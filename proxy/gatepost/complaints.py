"""COMPLAIN: the server that takes every message, keeps it for people to look at, and delivers none."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gatepost.config import LoadedConfig, load
from gatepost.config.settings import (
    Config,
    Keep,
    Limits,
    ListenerAuth,
    ListenerSettings,
    ListenerTls,
    Route,
    StoreSettings,
    WebSettings,
)
from gatepost.workers import Follow, Ready, supervise

__all__ = ["Complaints", "complain"]

_DAYS = 3650
"""What goes first is by number."""
_SESSIONS_A_MESSAGE = 10
"""So many journal records and conversations may be there for each message that is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaints:
    """How it is to be run."""

    smtp: str
    """``host:port``."""
    web: WebSettings | None
    """None: there is no web desk."""
    store: Path | None
    """An SQLite file; None: one that is gone at the end."""
    keep: int
    """Messages; the oldest go."""
    accept_auth: str
    """``any`` or ``none``."""
    tls: bool
    """Offer STARTTLS, with a certificate made on the spot."""
    rules: Path | None
    """A rules.yaml of which rules and lists are used."""


def complain(complaints: Complaints, *, follow: Follow | None, ready: Ready) -> None:
    """Run it until SIGTERM or SIGINT; no relay object is ever made.

    Args:
        complaints: how.
        follow: shows the conversation.
        ready: called when mail is taken.

    Raises:
        ConfigError: the rules are wrong.
        StoreError, OSError: it cannot be started.
    """
    with _own_folder() as folder:
        loaded = load(complaints.rules) if complaints.rules else LoadedConfig(config=Config())
        certificate = _certificate(folder) if complaints.tls else None
        store = complaints.store.absolute() if complaints.store else folder / "complaints.db"
        config = _config(complaints, loaded.config, store, certificate)
        supervise(replace(loaded, config=config), ready=ready, relays=False, follow=follow)


def _config(complaints: Complaints, rules: Config, store: Path, certificate: ListenerTls | None) -> Config:
    """A server that takes what a lenient one would: any user, any line end, no relaying."""
    auth = ListenerAuth(users="any", without_tls=True) if complaints.accept_auth == "any" else None
    keep = Keep(messages=complaints.keep, days=_DAYS, journal=complaints.keep * _SESSIONS_A_MESSAGE)
    return Config(
        hostname=rules.hostname,
        listen=(ListenerSettings(address=complaints.smtp, auth=auth, tls=certificate),),
        relay=(Route(recipients=("*",), clients=("0.0.0.0/0", "::/0"), to="inbox"),),
        limits=Limits(
            message_size=128 << 20,
            line=128 << 20,
            header_size=8 << 20,
            command_line=64 << 10,
            recipients=10_000,
            received_fields=1_000_000,
        ),
        store=StoreSettings(url=f"sqlite:///{store}", keep=keep, conversations=True),
        web=complaints.web,
        lists=rules.lists,
        rules=rules.rules,
        mixed=rules.mixed,
        bare_newline="accept",
        strict_addresses=False,
    )


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder for this run, taken away by the process that made it and by none of its children."""
    folder, owner = tempfile.mkdtemp(prefix="gatepost-"), os.getpid()
    try:
        yield Path(folder)
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def _certificate(folder: Path) -> ListenerTls:
    from gatepost.certificate import make_certificate  # noqa: PLC0415 - it takes a while to import

    certificate, key = make_certificate(folder)
    return ListenerTls(certificate=certificate, key=key)
