"""The settings of a server for the state, the gateways that share it, and `gatepost state` on it."""

import sys

import pytest
from gatepost.cli import app
from gatepost.config import ConfigError, load
from gatepost.testing import running_gateway
from typer.testing import CliRunner

FILTER = """
from dataclasses import dataclass

from gatepost import State, Verdict, hookimpl
from gatepost.state import Amount


@dataclass
class Counts:
    state: State

    @hookimpl
    async def filter_message(self, transaction):
        (counted,) = await self.state.add(Amount(key="all", amount=1, seconds=3600, limit=99))
        return Verdict(reason=str(counted.total))
"""


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("redis://127.0.0.1", None),
        ("redis://redis.example:6379/0", None),
        ("rediss://[::1]:6380/15", None),
        ("valkey://localhost:6379", "redis://localhost:6379"),
        ("valkeys://localhost/3", "rediss://localhost/3"),
        ("unix:///run/redis/redis.sock", None),
        ("unix:///run/a@b/redis.sock?db=2", None),
    ],
)
def test_urls(tmp_path, url, read):
    (tmp_path / "rules.yaml").write_text(f"state: {{url: '{url}'}}")
    assert load(tmp_path / "rules.yaml").config.state.url == (read or url)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            "{url: 'redis://:hidden@127.0.0.1'}",
            "not the URL of a server, expected one like redis://127.0.0.1:6379/0",
        ),
        ("{url: 'redis://joe:hidden@127.0.0.1'}", "and a password in password_file"),
        ("{url: 'http://127.0.0.1:6379'}", "not the URL of a server"),
        ("{url: '127.0.0.1:6379'}", "not the URL of a server"),
        ("{url: 'redis://'}", "not the URL of a server"),
        ("{url: 'redis://127.0.0.1:0'}", "not the URL of a server"),
        ("{url: 'redis://127.0.0.1:65536'}", "not the URL of a server"),
        ("{url: 'redis://127.0.0.1/x'}", "not the URL of a server"),
        ("{url: 'redis://127.0.0.1/0?socket_timeout=99'}", "not the URL of a server"),
        ("{url: 'unix://run/redis.sock'}", "not the URL of a server"),
        ("{url: 'redis://joe@127.0.0.1'}", "a user in url without a password, expected password_file"),
        ("{url: 'redis://h', path: memory}", "url and path, expected one of them"),
        (
            "{url: 'redis://h', max_entries: 5}",
            "url and max_entries, expected one of them: a server limits its own",
        ),
        ("{password_file: secret}", "password_file without url, expected the URL of a server"),
        ("{url: 'redis://h', password_file: empty}", "no password in"),
        ("{url: 'redis://h', password_file: none}", "a file that exists"),
        ("{url: 'redis://h', ca: secret}", "a PEM file of certificates"),
    ],
)
def test_wrong_ones_are_refused_without_showing_a_password(tmp_path, settings, problem):
    (tmp_path / "secret").write_text("hidden\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "rules.yaml").write_text(f"state: {settings}")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "rules.yaml")
    assert problem in str(raised.value)
    assert "hidden" not in str(raised.value)
    assert "rules.yaml:1:" in str(raised.value)


def test_without_the_extra_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    (tmp_path / "rules.yaml").write_text("state: {url: 'redis://127.0.0.1'}")
    with pytest.raises(
        ConfigError, match=r"redis is not installed, expected: pip install 'gatepost\[redis\]'"
    ):
        load(tmp_path / "rules.yaml")


def counting(url, **settings):
    rule = {"name": "counts", "filter": "./filters.py:Counts", "mode": "observe", "on_error": "defer"}
    return {"rules": [rule], "state": {"url": url}, **settings}


def reasons(gateway):
    return [evaluation.reason for record in gateway.journal() for evaluation in record.evaluations][::-1]


@pytest.mark.real("redis-server")
def test_two_gateways_count_together_also_after_a_reload(server):
    files = {"filters.py": FILTER}
    with (
        running_gateway(counting(server.url), files=files) as one,
        running_gateway(counting(server.url), files=files) as other,
    ):
        assert [one.send().code, other.send().code, one.send().code] == [250] * 3
        one.reload(counting(server.url))
        assert one.send().code == 250
        assert [reasons(one), reasons(other)] == [["1", "3", "4"], ["2"]]


@pytest.mark.real("redis-server")
def test_while_the_server_is_down_on_error_decides_and_it_is_logged_once(make_server, caplog):
    server = make_server("--requirepass", "right")
    settings = counting(server.url)
    settings["state"]["password_file"] = "password"
    settings["rules"][0]["mode"] = "enforce"
    settings["rules"][0] |= {"action": "tag", "tag": {"subject": "[counted]"}}
    server.stop()
    with running_gateway(settings, files={"filters.py": FILTER, "password": "right\n"}) as gateway:
        assert [gateway.send().code for _ in range(3)] == [451] * 3
        server.start()
        assert gateway.send().code == 250
        server.stop()
        assert gateway.send().code == 451
    lines = [line.getMessage() for line in caplog.records if "counts" in line.getMessage()]
    assert len([line for line in lines if f"the state on {server.url} cannot be reached" in line]) == 1
    assert len([line for line in lines if "answers again after 3 failures" in line]) == 1


@pytest.mark.real("redis-server")
def test_the_command_lists_and_forgets_what_is_on_the_server(server, tmp_path):
    (tmp_path / "rules.yaml").write_text(f"state: {{url: '{server.url}'}}")
    for name in (
        "known:0:ann@a.example joe",
        "known:0:bob@a.example eve",
        "known:60:bob@a.example eve",
        "limit:60:x",
    ):
        server.client.set(f"gatepost:{name}", b"i1", ex=1000)

    def run(*arguments):
        done = CliRunner().invoke(app, ["state", *arguments, "-c", str(tmp_path / "rules.yaml")])
        return done.exit_code, done.stdout, done.stderr

    assert run("list")[:2] == (0, "known: 3\nlimit: 1\n")
    status, output, _ = run("list", "known")
    assert status == 0
    assert [line.partition("  until ")[0] for line in output.splitlines()] == [
        "ann@a.example joe",
        "bob@a.example eve",
        "bob@a.example eve",
    ]
    assert output.splitlines()[2].endswith(", counted over 60 s")
    assert run("forget", "known", "BOB@*")[:2] == (0, "forgotten: bob@a.example eve\n")
    assert sorted(server.client.scan_iter()) == [
        b"gatepost:known:0:ann@a.example joe",
        b"gatepost:limit:60:x",
    ]
    status, _, errors = run("forget", "known", "bob@*")
    assert status == 1
    assert "known remembers nothing like 'bob@*'; others do: known, limit" in errors
    (tmp_path / "rules.yaml").write_text("state: {url: 'unix:///nowhere/redis'}")
    status, _, errors = run("list")
    assert (status, "the state on unix:///nowhere/redis cannot be reached" in errors) == (1, True)
