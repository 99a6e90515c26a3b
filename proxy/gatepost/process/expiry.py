"""When the certificates that the settings name expire."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gatepost.config import LoadedConfig, Problem
from gatepost.config.document import Location
from gatepost.metrics import Key
from gatepost.values import value

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["ExpiryWatch", "Validity", "certificate_warnings", "validities"]

log = logging.getLogger("gatepost")

_SOON = timedelta(days=21)
_DAY_SECONDS = 24 * 3600.0
_RENEWED = "one that is valid now and in 21 days; then run gatepost reload"


@value
class Validity:
    """The time in which the certificates in one file are valid."""

    file: Path
    begins: datetime
    begins_subject: str
    """The subject of the certificate that decides when."""
    ends: datetime
    ends_subject: str
    problem: Callable[[str, str], Problem]
    """Makes a problem at the place of the file in the settings."""

    def fault(self, now: datetime) -> str:
        """What is wrong now or soon; empty if nothing is."""
        if now < self.begins:
            return f"{self._named(self.begins_subject)} is not valid before {_shown(self.begins)}"
        if now >= self.ends:
            return f"{self._named(self.ends_subject)} expired on {_shown(self.ends)}"
        if self.ends - now < _SOON:
            left = _in_days((self.ends - now).days)
            return f"{self._named(self.ends_subject)} expires {left}, on {_shown(self.ends)}"
        return ""

    def is_valid(self, now: datetime) -> bool:
        """True within the time."""
        return self.begins <= now < self.ends

    def _named(self, subject: str) -> str:
        return f"the certificate of {subject} in {self.file}"


def _in_days(days: int) -> str:
    match days:
        case 0:
            return "in less than a day"
        case 1:
            return "in 1 day"
        case _:
            return f"in {days} days"


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def validities(loaded: LoadedConfig) -> tuple[Validity, ...]:
    """Those of all files of certificates in the settings, each file once; files in error are left out.

    A listener needs every certificate of its chain. Of authorities to trust, a valid one is enough.
    """
    found: dict[Path, Validity] = {}
    for location, file, needs_all in _files(loaded):
        if file not in found and (certificates := _certificates(file)):
            found[file] = _validity(loaded, location, file, certificates, needs_all=needs_all)
    return tuple(found.values())


def certificate_warnings(loaded: LoadedConfig, now: datetime | None = None) -> list[Problem]:
    """Warnings of certificates that are not valid, or expire within 21 days."""
    now = now or datetime.now(UTC)
    return [one.problem(fault, _RENEWED) for one in validities(loaded) if (fault := one.fault(now))]


def _files(loaded: LoadedConfig) -> Iterator[tuple[Location, Path, bool]]:
    """The place of each file of certificates, the file, and whether all certificates in it are needed."""
    config, web = loaded.config, loaded.config.web
    for number, listener in enumerate(config.listen):
        if listener.tls:
            yield ("listen", number, "tls", "certificate"), listener.tls.certificate, True
    if web and web.tls:
        yield ("web", "tls", "certificate"), web.tls.certificate, True
    for place, server in config.upstream_servers():
        if server.ca:
            yield (*place, "ca"), server.ca, False
    if web and web.oidc and web.oidc.ca:
        yield ("web", "oidc", "ca"), web.oidc.ca, False
    if config.state.ca:
        yield ("state", "ca"), config.state.ca, False


def _certificates(file: Path) -> "list[Certificate]":
    from cryptography import x509  # noqa: PLC0415 - it takes a while to import, and few settings need it

    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):  # what makes it unusable is reported by those that use it
        return []


def _validity(
    loaded: LoadedConfig,
    location: Location,
    file: Path,
    certificates: "list[Certificate]",
    *,
    needs_all: bool,
) -> Validity:
    latest, earliest = (max, min) if needs_all else (min, max)
    begins = latest(certificates, key=lambda one: one.not_valid_before_utc)
    ends = earliest(certificates, key=lambda one: one.not_valid_after_utc)

    def problem(what: str, expected: str) -> Problem:
        return loaded.problem(location, what, expected)

    return Validity(
        file=file,
        begins=begins.not_valid_before_utc,
        begins_subject=begins.subject.rfc4514_string() or "an empty subject",
        ends=ends.not_valid_after_utc,
        ends_subject=ends.subject.rfc4514_string() or "an empty subject",
        problem=problem,
    )


class ExpiryWatch:
    """Logs certificates that expire, when they are taken and then once a day."""

    def __init__(
        self,
        publish: Callable[[dict[Key, float]], None] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``publish`` is called with the samples for ``/metrics``."""
        self._publish = publish
        self._clock = clock
        self._now = now
        self._validities: tuple[Validity, ...] = ()
        self._due = 0.0

    def take(self, loaded: LoadedConfig) -> None:
        """Watch the certificates of these settings, as they are on the disk now."""
        self._validities = validities(loaded)
        if self._publish:
            samples: dict[Key, float] = {}
            for one in self._validities:
                samples["certificate_not_before_seconds", str(one.file)] = one.begins.timestamp()
                samples["certificate_not_after_seconds", str(one.file)] = one.ends.timestamp()
            self._publish(samples)
        self._due = self._clock()
        self.look()

    def look(self) -> None:
        """Log what is wrong, if a day has passed."""
        if not self._validities or self._clock() < self._due:
            return
        self._due = self._clock() + _DAY_SECONDS
        now = self._now()
        for one in self._validities:
            if fault := one.fault(now):
                level = logging.WARNING if one.is_valid(now) else logging.ERROR
                log.log(level, "%s", one.problem(fault, _RENEWED))
