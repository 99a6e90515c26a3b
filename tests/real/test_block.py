"""What ``gatepost block`` and the web desk block takes effect in the running gateway before they return."""

import json
import re
import urllib.request

import pytest

RULES = """
web: 127.0.0.1:0
workers: 2
lists: {blocked-senders: blocked.txt}
rules:
  - {name: blocked, filter: match, when: {sender: $blocked-senders}}
  - {name: odd, filter: './odd.py:Odd'}
"""
ODD = """
from gatepost import hookimpl


class Odd:
    @hookimpl
    def filter_message(self, transaction): ...
"""


@pytest.mark.long
def test_a_blocked_sender_is_refused_at_once_and_a_reload_that_fails_is_told(gateway, run):
    running = gateway(RULES, files={"blocked.txt": "", "odd.py": ODD}, errors=["not reloaded"])
    config = running.folder / "rules.yaml"
    assert running.send("Subject: hello\r\n\r\n", sender="eve@example.net").startswith("250 ")
    done = run("block", "example.net", "-c", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\S+/blocked.txt: added \*@example.net\nreloaded\n", done.stdout)
    assert running.send("Subject: hello\r\n\r\n", sender="eve@example.net").startswith("550 ")
    (running.folder / "odd.py").write_text("class Odd:")
    done = run("block", "example.org", "-c", config)
    assert done.returncode == 2
    assert "odd.py" in done.stderr
    assert "*@example.org" in (running.folder / "blocked.txt").read_text(), "for the reload that follows"
    assert running.stop() == 0


def change(running, **asked):
    request = urllib.request.Request(
        f"http://{running.desk}/api/v1/lists",
        json.dumps(asked).encode(),
        {**running.password, "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.long
def test_the_desk_blocks_in_all_workers_and_takes_it_back(gateway):
    running = gateway(RULES, files={"blocked.txt": "", "odd.py": ODD})
    for done, code in (("added", "550 "), ("removed", "250 ")):
        changed = change(running, do="block", entry="eve@example.net", remove=done == "removed")
        assert (changed["done"], changed["reloaded"]) == (done, True)
        for _ in range(6):
            assert running.send("Subject: hello\r\n\r\n", sender="eve@example.net").startswith(code)
    running.logs("list blocked-senders: removed eve@example.net by web desk (127.0.0.1)")
