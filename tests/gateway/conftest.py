"""What the gateway's own tests share."""

import time

import pytest


@pytest.fixture(autouse=True, scope="session")
def _the_journal_is_written_at_once():
    """Else each look at the journal waits a tenth of a second for records that might follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatepost.store.sql.writer._GATHER_SECONDS", 0.001)
        yield


@pytest.fixture
def wait_until():
    """Wait for a condition, with patience."""

    def wait(condition, what):
        give_up = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < give_up, what
            time.sleep(0.01)

    return wait
