"""Sessions of the web desk: shared where several nodes may have the store, and else the desk's own."""

import hashlib
import math
import secrets

import pytest

SHARED = {"postgresql"}
UNUSED_SECONDS = 3600


@pytest.fixture
def open_sessions(backend, backend_name, settings, store):
    """Open them as a desk does; None where the backend has none to share."""
    opened = []

    def open_them(unused_seconds=UNUSED_SECONDS):
        found = backend.open_desk_sessions(settings, unused_seconds=unused_seconds)
        assert (found is not None) == (backend_name in SHARED)
        if found:
            opened.append(found)
        return found

    yield open_them
    for one in opened:
        one.close()


OWNER = bytes(16)


def new_key():
    return hashlib.sha256(secrets.token_bytes()).digest()


async def test_what_one_desk_has_put_all_desks_get_until_one_removes_it(open_sessions):
    one, other = open_sessions(), open_sessions()
    if one is None:
        return
    key, sealed = new_key(), b"\0\xff sealed"
    one.put(key, sealed, owner=OWNER, lasts_seconds=math.inf)
    for desk in (one, other):
        assert desk.get(key, uses=False) == desk.get(key, uses=True) == sealed
        assert desk.get(new_key(), uses=True) is None
    other.remove(key)
    other.remove(key)
    assert one.get(key, uses=True) is None
    one.put(key, sealed, owner=OWNER, lasts_seconds=math.inf)
    one.close()
    assert one.get(key, uses=True) == sealed, "and what is closed opens again"


@pytest.mark.parametrize(("unused", "lasts"), [(0, math.inf), (UNUSED_SECONDS, 0.0)])
async def test_one_that_is_over_is_not_there_however_it_is_asked_for(open_sessions, unused, lasts):
    desk = open_sessions(unused)
    if desk is None:
        return
    key = new_key()
    desk.put(key, b"sealed", owner=OWNER, lasts_seconds=lasts)
    assert desk.get(key, uses=True) is desk.get(key, uses=False) is None


@pytest.mark.parametrize("lasts", [1.0e12, 3600.0])
async def test_one_that_ends_later_is_there(open_sessions, lasts):
    desk = open_sessions()
    if desk is None:
        return
    key = new_key()
    desk.put(key, b"sealed", owner=OWNER, lasts_seconds=lasts)
    assert desk.get(key, uses=True) == b"sealed"


async def test_desks_take_turns_to_report_where_several_nodes_may_have_the_store(
    backend, backend_name, settings, store
):
    reporting = backend.open_reporting(settings)
    assert (reporting is not None) == (backend_name in SHARED)
    if reporting:
        assert reporting.is_ours()
        reporting.close()
