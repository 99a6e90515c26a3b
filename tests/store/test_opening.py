"""The kind of a store is chosen by its URL, and only that kind is imported."""

import subprocess
import sys

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import (
    StoreError,
    open_archive,
    open_conversations,
    open_mailbox,
    open_store,
)

OPENERS = [open_store, open_archive, open_mailbox, open_conversations]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("url", ["mysql://root:secret@host/db", "memory:", "sqlite", ""])
def test_a_url_of_no_known_kind_is_refused_and_not_shown(opener, url, tmp_path):
    with pytest.raises(StoreError, match=r"store\.url is not the URL of a store") as raised:
        opener(StoreSettings.model_construct(url=url), tmp_path)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("opener", OPENERS[1:])
def test_only_the_gateway_makes_a_store(opener, tmp_path):
    with pytest.raises(StoreError, match=r"there is no store .*; `gatepost serve` makes it"):
        opener(StoreSettings(url="sqlite:///gatepost.db"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_callers_of_the_store_import_no_kind_of_store():
    code = (
        "import sys, gatepost.gateway, gatepost.web, gatepost.process.service, gatepost.cli.quarantine\n"
        "print(*{'sqlalchemy', 'alembic', 'sqlite3', 'gatepost.store.sqlite'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
