"""One suite for every backend: a new one is a line in BACKENDS."""

import gatepost.store.postgresql
import gatepost.store.sqlite
import pytest
from gatepost.config.store import StoreSettings
from gatepost.store.memory import MemoryBackend
from gatepost.store.sqlite.index import Index

BACKENDS = {
    "sqlite": lambda: gatepost.store.sqlite,
    "memory": MemoryBackend,
    "postgresql": lambda: gatepost.store.postgresql,
}
"""How to get a `gatepost.store.contract.Backend` that has no store yet at a temporary folder."""
WITHOUT_BACKUP = {"memory", "postgresql"}
NEEDS = {"postgresql": pytest.mark.real("postgres")}
NOT_INDEXED = "sqlite-not-indexed"
"""Its messages are read while another process has the index and has not filled it."""


def pytest_generate_tests(metafunc):
    if "backend_name" in metafunc.fixturenames:
        late = [NOT_INDEXED] if "mailbox" in metafunc.fixturenames else []
        names = [*BACKENDS, *late]
        if {"has_backup", "has_no_backup"} & {*metafunc.fixturenames}:
            wanted = "has_no_backup" in metafunc.fixturenames
            names = [name for name in names if (name in WITHOUT_BACKUP) is wanted]
        marked = [pytest.param(name, marks=NEEDS.get(name, ())) for name in names]
        metafunc.parametrize("backend_name", marked, scope="function")


@pytest.fixture
def has_backup():
    """Of the backends that can be backed up."""


@pytest.fixture
def has_no_backup():
    """Of the others."""


@pytest.fixture
def backend(backend_name):
    return BACKENDS[backend_name.removesuffix("-not-indexed")]()


@pytest.fixture
def no_store():
    """For tests that must find none."""


@pytest.fixture
def settings(backend_name, request):
    """Of a store that is empty, or not made yet."""
    if backend_name == "postgresql":
        server = request.getfixturevalue("postgresql")
        is_new = "no_store" in request.fixturenames
        return StoreSettings(url=server.new_schema() if is_new else server.clean_schema())
    return StoreSettings(url="sqlite:///gatepost.db")


@pytest.fixture
async def store(backend, settings, tmp_path):
    opened = backend.open_store(settings, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def unfilled_index(store, backend_name, tmp_path):
    """True where nobody fills the index while the test lasts."""
    index = Index(tmp_path / "gatepost.db")
    if backend_name == NOT_INDEXED:
        index.open()
    yield backend_name == NOT_INDEXED
    index.close()
