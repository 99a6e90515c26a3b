"""A crash of a process that releases a message."""

import asyncio
import signal
import sys

from gatepost.model.verdict import Reply
from gatepost.store import ConflictError, State, release_once

TAKEN = Reply(code=250, enhanced="2.0.0", text="Ok: queued")

CRASH = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from gatepost.config.store import StoreSettings
from gatepost.store import claims, open_archive, release_once

claims.CLAIM_TIME = timedelta(seconds=1)
archive = open_archive(StoreSettings(url="sqlite:///gatepost.db"), Path(sys.argv[1]))
message = archive.kept_message(sys.argv[2])
release_once(archive, message, lambda: os.kill(os.getpid(), signal.SIGKILL), to=("x@y",), actor="crash")
"""


async def test_a_crash_within_a_release_neither_loses_nor_blocks_the_message(
    store, make_record, make_kept, tmp_path, until
):
    archive = store.archive
    held = make_kept().id
    await store.commit(make_record(), (make_kept(id=held),))
    seen = archive.kept_message(held)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASH, tmp_path, held)
    assert await process.wait() == -signal.SIGKILL
    assert archive.kept_message(held) == seen

    def released():
        try:
            return release_once(archive, seen, lambda: TAKEN, to=("dave@example.org",), actor="ann")
        except ConflictError as error:
            assert "crash has been releasing" in str(error)  # noqa: PT017 - it may be over already

    await until(released)
    assert archive.kept_message(held).state is State.RELEASED
