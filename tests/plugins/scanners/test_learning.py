"""What people say about stored messages reaches the scanners: ``learn_message`` and ``gatepost learn``."""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from gatepost import Place
from gatepost.cli import app
from gatepost.config import ConfigError, load
from gatepost.config.store import StoreSettings
from gatepost.model.learnt import Learnt
from gatepost.pipeline.learning import learn
from gatepost.pipeline.loader import load_rules
from gatepost.store import Box, Kept, open_store
from gatepost.testing import make_message, make_record, make_transaction, run_filter
from gatepost_rspamd import Rspamd
from gatepost_spamassassin import SpamAssassin
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from scanner_servers import Daemon, ask_tcp, scripted

SPAM = "Zebra lottery giraffe winner elephant casino rhinoceros jackpot hippopotamus prize crocodile million"
HAM = "Minutes accounting meeting monday quarterly report budget department colleagues schedule agenda room"
OWN = """
import asyncio
from gatepost import hookimpl

class Learns:
    def __init__(self, says: str = ""):
        self.says = says

    @hookimpl
    async def learn_message(self, content, kind, recipients):
        if self.says == "raises":
            raise OSError("the service is down")
        if self.says == "sleeps":
            await asyncio.sleep(60)
        if self.says == "number":
            return 5
        if self.says == "nothing":
            return None
        return f"{kind} {len(content)} {[one.address for one in recipients]}\\x1b[2J"

class Other:
    @hookimpl
    def filter_message(self, transaction): ...
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gatepost(tmp_path: Path) -> Run:
    """Run a command with these rules, over a store with a message of spam in quarantine and one of ham."""

    async def fill() -> None:
        store = open_store(StoreSettings(url="sqlite:///gatepost.db"), tmp_path)
        for name, box, text in (("s1", Box.QUARANTINE, SPAM), ("h1", Box.INBOX, HAM)):
            content = make_message(subject=name, text=text)
            kept = Kept(
                id=name,
                box=box,
                mail_from="ann@example.org",
                recipients=("bob@example.com", "carol@example.com"),
                prepended=b"Received: from x\r\n",
                content=content,
                rule=None,
                reason="",
            )
            record = replace(make_record(make_transaction(content)), session_id="session")
            await store.commit(record, (kept,))
        await store.close()

    asyncio.run(fill())
    (tmp_path / "own.py").write_text(OWN)

    def run(rules: list[dict[str, Any]], *arguments: str) -> tuple[int, str, str]:
        settings = {"hostname": "mx.example.net", "store": {"url": "sqlite:///gatepost.db"}, "rules": rules}
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(settings))
        done = CliRunner().invoke(app, [*arguments, "-c", str(tmp_path / "rules.yaml")])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.mark.real("rspamd", "spamd")
def test_both_scanners_learn_and_know_the_next_such_message(
    gatepost: Run, rspamd: Daemon, spamd: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret\n")
    scanner = {
        "address": rspamd.addresses["tcp"],
        "controller": rspamd.addresses["controller"],
        "password_file": "password",
    }
    rules = [
        {"name": "r", "filter": "rspamd", "learn": True, "with": scanner},
        {"name": "s", "filter": "spamassassin", "learn": True, "with": {"address": spamd.addresses["tcp"]}},
        {"name": "not", "filter": "spamassassin", "with": {"address": "127.0.0.1:1"}},
    ]
    assert gatepost(rules, "learn", "spam", "s1") == (
        0,
        "s1 r: learned as spam\ns1 s: learned as spam\n",
        "",
    )
    assert gatepost(rules, "learn", "ham", "h1")[:2] == (0, "h1 r: learned as ham\nh1 s: learned as ham\n")
    assert gatepost(rules, "learn", "spam", "s1")[:2] == (0, "s1 r: already learned\ns1 s: already learned\n")
    similar = make_transaction(subject="Again", text=SPAM)
    verdict = run_filter(SpamAssassin, similar, address=spamd.addresses["tcp"], hits="all")
    assert verdict is not None
    assert [match.text for match in verdict.matches] == ["BAYES_SPAM"]
    port = int(rspamd.addresses["controller"].rpartition(":")[2])
    statistics = ask_tcp(port, b"GET /stat HTTP/1.0\r\nPassword: secret\r\n\r\n")
    assert json.loads(statistics.partition(b"\r\n\r\n")[2])["learned"] == 2


@pytest.mark.real("rspamd")
def test_a_wrong_password_is_told(gatepost: Run, rspamd: Daemon) -> None:
    rules = [
        {
            "name": "r",
            "filter": "rspamd",
            "learn": True,
            "with": {"controller": rspamd.addresses["controller"]},
        }
    ]
    status, out, err = gatepost(rules, "learn", "spam", "s1")
    assert (status, out) == (1, "")
    assert re.match(r"gatepost: s1 r: FinalError: rspamd's controller at \S+: it answers 40[13]: ", err)


async def test_a_password_is_the_first_line_of_its_file_in_any_alphabet(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(1)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"success":true}')
        await writer.drain()

    (tmp_path / "password").write_text("groß und geheim \r\nmore\n", "utf-8")
    async with scripted(script) as server:
        place, file = Place(rule="r", folder=tmp_path), tmp_path / "password"
        rspamd = Rspamd(place=place, controller=server.address, password_file=file)
        assert await rspamd.learn_message(content=b"x", kind="spam") is None
    assert "\r\npassword: groß und geheim\r\n" in heads[0].decode().lower()


async def test_a_spamd_that_may_not_learn_is_told(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled.\r\n")
        await writer.drain()

    async with scripted(script) as server:
        (tmp_path / "rules.yaml").write_text(
            f"rules: [{{name: s, filter: spamassassin, learn: true, with: {{address: '{server.address}'}}}}]"
        )
        content = make_message()
        (learnt,) = await asyncio.to_thread(
            learn, load(tmp_path / "rules.yaml"), content, ["a@b.example"], "ham"
        )
    assert not learnt.succeeded
    assert "TELL commands are not enabled" in learnt.text


async def test_each_user_of_spamd_learns_once(tmp_path: Path) -> None:
    users: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert "Message-class: ham\r\nSet: local\r\n" in head
        users.extend(re.findall(r"User: (.*)\r\n", head))
        await reader.readexactly(int(re.findall(r"Content-length: (\d+)", head)[0]))
        writer.write(b"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n")
        await writer.drain()

    async with scripted(script) as server:
        settings = f"address: '{server.address}', user: '{{recipient}}'"
        (tmp_path / "rules.yaml").write_text(
            f"rules: [{{name: s, filter: spamassassin, learn: true, with: {{{settings}}}}}]"
        )
        recipients = ["Ann@example.com", "bob@example.com", "ann@example.com"]
        found = await asyncio.to_thread(learn, load(tmp_path / "rules.yaml"), b"x", recipients, "ham")
    assert found == (Learnt(rule="s", succeeded=True, text=""),)
    assert users == ["ann@example.com", "bob@example.com"]


def test_what_a_filter_says_is_shown_and_its_failures_are_too(gatepost: Run) -> None:
    rules = [
        {"name": says, "filter": "./own.py:Learns", "learn": True, "timeout": seconds, "with": {"says": says}}
        for says, seconds in (
            ("something", 30),
            ("nothing", 30),
            ("raises", 30),
            ("sleeps", 0.3),
            ("number", 30),
        )
    ]
    status, out, err = gatepost(rules, "learn", "spam", "s1")
    size = len(make_message(subject="s1", text=SPAM))
    assert status == 1
    assert out.splitlines() == [
        f"s1 something: spam {size} ['bob@example.com', 'carol@example.com']\\x1b[2J",
        "s1 nothing: learned as spam",
    ]
    assert err.splitlines() == [
        "gatepost: s1 raises: OSError: the service is down",
        "gatepost: s1 sleeps: no answer within 0.3 s",
        "gatepost: s1 number: TypeError: returned int, expected str or None",
    ]


def test_wrong_usage_is_told(gatepost: Run) -> None:
    learns = [{"name": "r", "filter": "./own.py:Learns", "learn": True, "with": {"says": "nothing"}}]
    status, out, err = gatepost([{"name": "r", "filter": "./own.py:Learns"}], "learn", "spam", "s1")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"gatepost: no rule in \S+rules.yaml has `learn: true`\n", err)
    assert gatepost(learns, "learn", "spam", "nosuch", "s1") == (
        1,
        "s1 r: learned as spam\n",
        "gatepost: there is no stored message 'nosuch'\n",
    )
    assert gatepost(learns, "learn", "eggs", "s1")[0] == 2
    assert gatepost(learns, "learn", "spam", "session")[::2] == (
        1,
        "gatepost: 'session' names several messages, name one of them: h1, s1\n",
    )
    gatepost(learns, "quarantine", "delete", "-y", "s1")
    assert gatepost(learns, "learn", "spam", "s1")[0] == 1


@pytest.mark.parametrize("name", ["./own.py:Other", "rspamd", "clamav"])
def test_a_rule_that_cannot_learn_is_refused_when_the_rules_are_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "rules.yaml").write_text(f"rules: [{{name: r, filter: '{name}', learn: true}}]")
    with pytest.raises(ConfigError, match="does not learn, or its settings lack what it needs"):
        load_rules(load(tmp_path / "rules.yaml"))
