"""The pages of a message and of the journal allow and block its sender, in the lists of the rules."""

import re

import pytest
from gatepost.store import Box

HX = {"hx-request": "true"}


def offered(page):
    """By the name of a dialog, the entries that it offers."""
    dialogs = re.findall(r'<dialog id="(\w+)-sender".*?</dialog>', page, re.DOTALL)
    texts = re.findall(r'<dialog id="\w+-sender".*?</dialog>', page, re.DOTALL)
    entries = [re.findall(r'name="entry" value="([^"]*)"', text) for text in texts]
    return dict(zip(dialogs, entries, strict=True))


async def pages(http, desk, kept_id):
    record = desk.archive.kept_message(kept_id).transaction_id
    return [(await http.get(path)).text for path in (f"/messages/{kept_id}", f"/journal/{record}")]


@pytest.mark.usefixtures("lists")
async def test_only_what_rules_use_is_offered(http, keep, desk):
    kept_id = await keep("Hello", box=Box.QUARANTINE)
    for page in await pages(http, desk, kept_id):
        assert offered(page) == {"block": ["ann@example.com", "*@example.com", "192.0.2.1"]}
        assert "Block this sender" in page
        assert "Always allow" not in page


async def test_after_a_reload_it_is_what_the_rules_use_then(http, keep, desk, lists):
    kept_id = await keep("Hello")
    rules = (lists / "rules.yaml").read_text()
    allow = "  - {name: allowed, filter: match, when: {sender: $allowed-senders}, action: accept}\n"
    (lists / "rules.yaml").write_text(rules.replace("$blocked-clients", "192.0.2.7") + allow)
    desk.settings.reload()
    senders = ["ann@example.com", "*@example.com"]
    for page in await pages(http, desk, kept_id):
        assert offered(page) == {"allow": senders, "block": senders}
    (lists / "rules.yaml").unlink()
    desk.settings.reload()
    for page in await pages(http, desk, kept_id):
        assert offered(page) == {"allow": senders, "block": senders}


async def test_without_lists_there_is_no_button_and_no_change(http, keep, desk):
    kept_id = await keep("Hello")
    for page in await pages(http, desk, kept_id):
        assert offered(page) == {}
        assert "this sender" not in page
    form = {"do": "block", "entry": "ann@example.com"}
    assert (await http.post("/lists/change", data=form)).status_code == 404


async def test_the_dialog_says_what_was_done(http, lists, reloads):
    form = {"do": "block", "entry": "ann@example.com", "note": "<b>"}
    answer = await http.post("/lists/change", data=form, headers=HX)
    path = lists / "senders.txt"
    assert f"{path}: added ann@example.com. In force now." in answer.text
    assert path.read_text().endswith("blocked by web desk (127.0.0.1): <b>\n")
    gone = await http.post("/lists/change", data={**form, "remove": "1"}, headers=HX)
    assert f"{path}: removed ann@example.com. In force now." in gone.text
    assert path.read_text() == ""
    missing = await http.post("/lists/change", data={**form, "remove": "1"})
    assert (missing.status_code, missing.text) == (409, f"{path}: no line is ann@example.com.\n")
    assert len(reloads) == 2


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"do": "block", "entry": "<script>"}, "expected an address or a pattern"),
        ({"do": "block", "entry": ""}, "expected an address or a pattern"),
        ({"do": "allow", "entry": "a@b.example"}, "no rule or route with $allowed-senders"),
    ],
)
async def test_what_cannot_be_is_told(http, lists, reloads, form, told):
    before = {path: path.read_bytes() for path in lists.iterdir()}
    answer = await http.post("/lists/change", data=form, headers=HX)
    assert 'role="alert"' in answer.text
    assert told in answer.text
    assert "<script>" not in answer.text
    assert {path: path.read_bytes() for path in lists.iterdir()} == before
    assert not reloads


@pytest.mark.usefixtures("lists")
async def test_other_sites_and_strangers_change_nothing(http, client_of, reloads):
    form = {"do": "block", "entry": "a@b.example"}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert (await http.post("/lists/change", data=form, headers=headers)).status_code == 403
    async with client_of(password="secret") as stranger:
        assert (await stranger.post("/lists/change", data=form)).status_code == 401
        named = {"authorization": "Basic YW5uOnNlY3JldA=="}
        answer = await stranger.post("/lists/change", data=form, headers=named)
        assert answer.status_code == 200
    (change,) = reloads
    assert "blocked by ann (127.0.0.1)" in change.path.read_text()
