"""Complaints mode: a server that accepts every message, stores it, and delivers none."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from gatepost.config import LoadedConfig, load
from gatepost.config.certificate import CertificateSettings
from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerAuth, ListenerSettings, ListenerTls
from gatepost.config.relay import Route
from gatepost.config.settings import Config
from gatepost.config.store import Keep, StoreSettings
from gatepost.config.web import WebSettings
from gatepost.model.mail import Stage
from gatepost.process.workers import Follow, Ready, supervise
from gatepost.values import value

__all__ = ["Complaints", "complain"]

_DAY_SECONDS = 86_400
_DAYS = 3650
"""So long that the limit by number is reached first."""
_SESSIONS_A_MESSAGE = 10
"""Journal records and conversations that are stored for each stored message."""


@value
class Complaints:
    """How to run it."""

    smtp: str
    """``host:port``."""
    web: WebSettings | None
    """None: no web desk."""
    store: Path | None
    """An SQLite file; None: a temporary one."""
    keep: int
    """Number of messages; older ones are deleted."""
    keep_seconds: float | None = None
    """Age of messages; older ones are deleted. None: any age."""
    accept_auth: str
    """``any`` or ``none``."""
    smtps: str | None
    """``host:port`` of a further listener, with TLS from the start; None: there is none."""
    starttls: bool
    """Offer STARTTLS."""
    https: bool
    """Serve the web desk over HTTPS, with the certificate in its settings or else with that of SMTP."""
    certificate: CertificateSettings | None
    """For SMTP; None: a newly generated one if it is needed."""
    rules: Path | None
    """A rules.yaml; only its rules and lists are used."""
    hold_at: Sequence[Stage] = ()
    """The stages at which every session is held."""


def complain(complaints: Complaints, *, follow: Follow | None, ready: Ready) -> None:
    """Run it until SIGTERM or SIGINT.

    The processes that accept mail make no relay object. Only the web desk does, when somebody forwards a
    message to the server of `WebSettings.forward`.

    Args:
        complaints: how to run it.
        follow: shows the conversation.
        ready: called when it accepts mail.

    Raises:
        ConfigError: the rules are invalid.
        StoreError, OSError: it cannot be started.
    """
    with _own_folder() as folder:
        loaded = load(complaints.rules) if complaints.rules else LoadedConfig(config=Config())
        store = complaints.store.absolute() if complaints.store else folder / "complaints.db"
        config = _config(complaints, loaded.config, store, _certificate(complaints, folder))
        loaded = replace(loaded, config=config)
        supervise(loaded, ready=ready, relays=False, follow=follow, hold_at=complaints.hold_at)


def _config(
    complaints: Complaints, rules: Config, store: Path, certificate: CertificateSettings | None
) -> Config:
    """The settings of a lenient server: any user, any line end, no relaying."""
    auth = ListenerAuth(users="any", without_tls=True) if complaints.accept_auth == "any" else None
    keep = Keep(
        messages=complaints.keep,
        days=_DAYS if complaints.keep_seconds is None else complaints.keep_seconds / _DAY_SECONDS,
        journal=complaints.keep * _SESSIONS_A_MESSAGE,
        settling=timedelta(0),
    )
    return Config(
        hostname=rules.hostname,
        listen=(*_listeners(complaints, auth, certificate),),
        relay=(Route(recipients=("*",), clients=("0.0.0.0/0", "::/0"), to="inbox"),),
        limits=Limits(
            message_size=128 << 20,
            line=128 << 20,
            header_size=8 << 20,
            command_line=64 << 10,
            recipients=10_000,
            max_hops=1_000_000,
        ),
        store=StoreSettings(url=f"sqlite:///{store}", keep=keep, conversations=True),
        web=_web(complaints, certificate),
        lists=rules.lists,
        rules=rules.rules,
        mixed_recipients=rules.mixed_recipients,
        bare_newline="accept",
        strict_addresses=False,
    )


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A temporary folder for this run; only the process that made it deletes it, not its children."""
    folder, owner = tempfile.mkdtemp(prefix="gatepost-"), os.getpid()
    try:
        yield Path(folder)
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def _certificate(complaints: Complaints, folder: Path) -> CertificateSettings | None:
    """The certificate of SMTP; None if there is no TLS."""
    web = complaints.web
    web_needs_it = complaints.https and web is not None and web.tls is None
    if not (complaints.starttls or complaints.smtps or web_needs_it):
        return None
    if complaints.certificate:
        return complaints.certificate
    from gatepost.process.certificate import make_certificate  # noqa: PLC0415 - it takes a while to import

    certificate, key = make_certificate(folder, web.hosts if web else ())
    return CertificateSettings(certificate=certificate, key=key)


def _listeners(
    complaints: Complaints, auth: ListenerAuth | None, certificate: CertificateSettings | None
) -> Iterator[ListenerSettings]:
    files = dict(certificate) if certificate else {}
    starttls = ListenerTls(**files) if complaints.starttls else None
    yield ListenerSettings(address=complaints.smtp, auth=auth, tls=starttls)
    if complaints.smtps:
        implicit = ListenerTls(**files, mode="implicit")
        yield ListenerSettings(address=complaints.smtps, auth=auth, tls=implicit)


def _web(complaints: Complaints, certificate: CertificateSettings | None) -> WebSettings | None:
    web = complaints.web
    return web.model_copy(update={"tls": certificate}) if web and complaints.https and not web.tls else web
