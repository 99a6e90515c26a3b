"""The API does what its OpenAPI document says: schemathesis asks a running desk for all that it describes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = Path(__file__).parent / "contract"
HOLD = """
    store: {conversations: true}
    web: {address: "127.0.0.1:0", forward: "smtp://127.0.0.1:PORT"}
    rules:
      - name: held
        filter: match
        when: {sender: held@example.org}
        action: quarantine
      - {name: learns, filter: './learns.py:Learns', learn: true}
"""
LEARNS = """
    from gatepost import hookimpl


    class Learns:
        @hookimpl
        def filter_message(self):
            return None

        @hookimpl
        def learn_message(self, content, kind):
            if kind == "ham":
                raise ConnectionError("no ham today")
            return "learned again"
"""

OF_HELD = {"readHeld", "readHeldMessage", "answerHeld"}
"""Of a session that is held; tests/web/api/test_openapi.py has one."""
OF_LEARNING = {"learnMessage"}
"""Of rules that learn."""
OF_LISTS = {"changeList"}
"""Of rules that use lists; tests/web/api/test_lists.py has some."""


def schemathesis(desk, smtp_port, folder, *options):
    """The operations that never did what they are for, after a run in which all was as documented."""
    command = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            command,
            *("--config-file", CONTRACT / "schemathesis.toml"),
            *("run", f"http://{desk}/api/openapi.json", "--no-color", *options),
        ],
        cwd=folder,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(CONTRACT),
            "CONTRACT_SMTP_PORT": str(smtp_port),
        },
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    (folder / "report.txt").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    statuses = json.loads((folder / "statuses.json").read_text())
    return {name for name, answers in statuses.items() if "200" not in answers}


@pytest.mark.long
def test_the_desk_of_complaints_mode(complaints, tmp_path):
    forward_to = f"smtp://127.0.0.1:{complaints().port}"
    running = complaints("--web", "127.0.0.1:0", "-q", "--forward-to", forward_to)
    never = schemathesis(running.desk, running.port, tmp_path)
    assert never <= {"releaseMessage", "deleteQuarantined"} | OF_HELD | OF_LEARNING | OF_LISTS, (
        "nothing is in quarantine here"
    )
    assert " ERROR " not in running.log


@pytest.mark.long
def test_the_desk_of_a_gateway(gateway, complaints, tmp_path):
    upstream = complaints()
    running = gateway(
        HOLD.replace("PORT", str(upstream.port)), upstream=upstream.port, files={"learns.py": LEARNS}
    )
    (password,) = (f"{name}: {value}" for name, value in running.password.items())
    options = ("--header", password, "--phases", "fuzzing,stateful")
    never = schemathesis(running.desk, running.port, tmp_path, *options)
    nowhere = {"armBreakpoint", "disarmBreakpoint", "importMessages"}
    assert never <= nowhere | OF_HELD | OF_LISTS, "a gateway has no breakpoints and imports nothing"
