"""Nodes whose clocks differ release and delete a message once: what counts is the clock of the server."""

import subprocess
import sys

import pytest
from gatepost.store import State, open_archive

RULES = """\
store: {{url: "{url}"}}
relay: [{{recipients: "*@*", to: inbox}}]
"""


@pytest.fixture
def quarantine(settings, tmp_path):
    """Run `gatepost quarantine` on a machine whose clock is ahead by so much."""
    (tmp_path / "rules.yaml").write_text(RULES.format(url=settings.url))

    def run(ahead, *arguments):
        command = ["faketime", "-f", ahead, sys.executable, "-m", "gatepost", "quarantine", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.mark.real("faketime")
@pytest.mark.parametrize("ahead", ["+10m", "-10m"])
async def test_what_another_node_is_releasing_is_neither_released_nor_deleted(
    quarantine, settings, store, make_record, make_kept, tmp_path, ahead
):
    await store.commit(make_record(), (kept := make_kept(),))
    with open_archive(settings, tmp_path) as archive:
        claim = archive.claim_release(archive.kept_message(kept.id), actor="ann")
        for command in (["release", kept.id], ["delete", kept.id, "--yes"]):
            done = quarantine(ahead, *command)
            assert done.returncode == 1, done.stdout + done.stderr
        assert archive.kept_message(kept.id).state is State.HELD
        archive.abandon_release(claim)
        done = quarantine(ahead, "release", kept.id)
        assert done.returncode == 0, done.stderr
        assert archive.kept_message(kept.id).state is State.RELEASED
