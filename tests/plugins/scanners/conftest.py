"""The real scanners of Debian, each started once."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import debian_scanners
from scanner_servers import Daemon

REAL = frozenset({"clamd", "rspamd", "spamd"})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for a real scanner takes long, because that must start first."""
    for item in items:
        if item.path.parent == Path(__file__).parent and REAL.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def spamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A spamd with a few rules, and a plugin that sleeps."""
    with debian_scanners.spamd(tmp_path_factory.mktemp("spamd")) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def rspamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An rspamd that does what header fields of the message say, without its rules, lists and DNS."""
    with debian_scanners.rspamd(tmp_path_factory.mktemp("rspamd")) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A clamd that knows EICAR alone, and reports what it cannot look into or not to the end."""
    with debian_scanners.clamd(tmp_path_factory.mktemp("clamd")) as daemon:
        yield daemon
