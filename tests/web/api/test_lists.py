"""The API blocks and allows senders and clients, in the files of the rules' lists."""

import re
from datetime import datetime

import pytest
from gatepost.web.lists import NotReloadedError

URL = "/api/v1/lists"


async def test_an_entry_is_added_found_and_removed(http, lists, reloads, caplog):
    caplog.set_level("INFO", "gatepost")
    path = lists / "senders.txt"
    answer = await http.post(URL, json={"do": "block", "entry": "example.net", "note": "asked\nby Ann\u2028"})
    assert answer.status_code == 200
    assert answer.json() == {
        "list": "blocked-senders",
        "file": str(path),
        "entry": "*@example.net",
        "done": "added",
        "line": None,
        "reloaded": True,
        "message": f"{path}: added *@example.net",
    }
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    line = f"*@example.net  # {today} blocked by web desk (127.0.0.1): asked by Ann\n"
    assert path.read_text() == line
    (logged,) = [one.getMessage() for one in caplog.records if one.name.startswith("gatepost.process.desk")]
    assert logged == "list blocked-senders: added *@example.net by web desk (127.0.0.1)"

    again = (await http.post(URL, json={"do": "block", "entry": "eve@EXAMPLE.net"})).json()
    assert (again["done"], again["line"], again["reloaded"]) == ("there", 1, True)
    absent = (await http.post(URL, json={"do": "block", "entry": "eve@example.net", "remove": True})).json()
    assert (absent["done"], absent["line"], absent["reloaded"]) == ("missing", 1, False)
    assert path.read_text() == line
    gone = (await http.post(URL, json={"do": "block", "entry": "*@EXAMPLE.net", "remove": True})).json()
    assert (gone["done"], gone["line"], path.read_text()) == ("removed", None, "")
    assert [one.done for one in reloads] == ["added", "there", "removed"]


@pytest.mark.parametrize(
    ("asked", "status", "kind", "told"),
    [
        ({"do": "block", "entry": "localhost"}, 409, "no-list", "'localhost', expected an address"),
        ({"do": "block", "entry": "a@b\n*"}, 409, "no-list", "expected an address, a domain"),
        ({"do": "ban", "entry": "a@b.example"}, 400, "wrong-request", "'block' or 'allow'"),
        ({"entry": "a@b.example"}, 400, "wrong-request", "body do"),
        ({"do": "allow", "entry": "192.0.2.1"}, 409, "no-list", "has no list 'allowed-clients', expected"),
        ({"do": "allow", "entry": "a@b.example"}, 409, "no-list", "no rule or route with $allowed-senders"),
        (
            {"do": "block", "entry": "a@b.example", "list": "blocked-clients"},
            409,
            "no-list",
            "no entry for $blocked",
        ),
    ],
)
async def test_what_would_have_no_effect_is_refused(http, lists, reloads, asked, status, kind, told):
    before = {path: path.read_bytes() for path in lists.iterdir()}
    answer = await http.post(URL, json=asked)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/api/#problem-{kind}")
    assert told in re.sub(r"\s+", " ", answer.json()["detail"])
    assert {path: path.read_bytes() for path in lists.iterdir()} == before
    assert not reloads


async def test_a_file_that_cannot_be_written_is_named(http, lists, reloads, monkeypatch):
    def full(_file):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.fsync", full)
    for remove in (False, True):
        (lists / "senders.txt").write_text("b@example.net\n")
        entry = "b@example.net" if remove else "a@example.net"
        answer = await http.post(URL, json={"do": "block", "entry": entry, "remove": remove})
        assert (answer.status_code, answer.json()["type"]) == (500, "/api/#problem-list-file")
        told = f"{lists}/senders.txt: cannot be written: Read-only file system"
        assert answer.json()["detail"] == told
        assert (lists / "senders.txt").read_text() == "b@example.net\n"
        assert not [path for path in lists.iterdir() if path.name.startswith(".")]
    assert not reloads


async def test_a_reload_that_fails_is_told_with_what_was_written(http, lists, reloads):
    reloads.append(NotReloadedError("added a@example.net; the rules were not reloaded: no answer"))
    answer = await http.post(URL, json={"do": "block", "entry": "a@example.net"})
    assert (answer.status_code, answer.json()["type"]) == (500, "/api/#problem-not-reloaded")
    assert "the rules were not reloaded" in answer.json()["detail"]
    (lists / "rules.yaml").write_text("rulez:\n")
    answer = await http.post(URL, json={"do": "block", "entry": "c@example.net"})
    assert answer.status_code == 500
    assert "nothing was changed: the settings have a mistake" in answer.json()["detail"]
    assert "unknown key 'rulez'" in answer.json()["detail"]
    assert "c@example.net" not in (lists / "senders.txt").read_text()


async def test_without_a_gateway_there_are_no_lists(http):
    answer = await http.post(URL, json={"do": "block", "entry": "a@example.net"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-no-list")


@pytest.mark.usefixtures("lists")
async def test_other_sites_change_nothing(http, reloads):
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = await http.post(URL, json={"do": "block", "entry": "a@b.example"}, headers=headers)
        assert answer.status_code == 403
    assert not reloads
