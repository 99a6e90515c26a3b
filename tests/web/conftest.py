"""What several tests of the web desk need."""

import contextlib
import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def within_seconds():
    """Fail where a block takes longer than even a slow and busy machine needs for linear work."""

    @contextlib.contextmanager
    def measured(seconds: float) -> Iterator[None]:
        started = time.process_time()
        yield
        taken = time.process_time() - started
        assert taken < seconds, f"{taken:.1f} s of processor time"

    return measured
