"""What counts is the clock of the server: nodes whose clocks differ release and delete a message once.

A gateway whose clock is far off does not start.
"""

import subprocess
import sys

import pytest
from gatepost.store import State, open_archive

RULES = """\
store: {{url: "{url}"}}
relay: [{{recipients: "*@*", to: inbox}}]
listen: ["127.0.0.1:0"]
workers: {workers}
"""


@pytest.fixture
def gatepost(settings, tmp_path):
    """Run `gatepost` on a machine whose clock is ahead by so much."""

    def run(ahead, *arguments, url=settings.url, workers=1):
        (tmp_path / "rules.yaml").write_text(RULES.format(url=url, workers=workers))
        command = ["faketime", "-f", ahead, sys.executable, "-m", "gatepost", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.mark.real("faketime")
@pytest.mark.parametrize("ahead", ["+10m", "-10m"])
async def test_what_another_node_is_releasing_is_neither_released_nor_deleted(
    gatepost, settings, store, make_record, make_kept, tmp_path, ahead
):
    await store.commit(make_record(), (kept := make_kept(),))
    with open_archive(settings, tmp_path) as archive:
        claim = archive.claim_release(archive.kept_message(kept.id), actor="ann")
        for command in (["release", kept.id], ["delete", kept.id, "--yes"]):
            done = gatepost(ahead, "quarantine", *command)
            assert done.returncode == 1, done.stdout + done.stderr
        assert archive.kept_message(kept.id).state is State.HELD
        archive.abandon_release(claim)
        done = gatepost(ahead, "quarantine", "release", kept.id)
        assert done.returncode == 0, done.stderr
        assert archive.kept_message(kept.id).state is State.RELEASED


@pytest.mark.real("faketime")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("ahead", "word"), [("+10m", "ahead of"), ("-10m", "behind")])
def test_a_gateway_whose_clock_is_far_off_does_not_start_and_writes_nothing(
    gatepost, postgresql, ahead, word, workers
):
    done = gatepost(ahead, "serve", url=(url := postgresql.new_schema()), workers=workers)
    assert done.returncode == 2, done.stderr
    assert f"seconds {word} that of the server of postgresql://" in done.stderr
    assert "rules.yaml:1:" in done.stderr
    assert "listens" not in done.stderr
    assert "Traceback" not in done.stderr
    with postgresql.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
