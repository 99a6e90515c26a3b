"""Gateways as they are run: two nodes with one store, one of which is killed; what is wrong at the start."""

import json
import re
import smtplib
import subprocess
import sys
import time

import pytest

RULES = """\
hostname: {name}.example.com
listen: [{{address: "127.0.0.1:0"}}]
store: {{url: "{url}"}}
relay: [{{recipients: "*@example.net", to: inbox}}]
rules: [{{name: hold, filter: keywords, with: {{words: [number]}}, action: quarantine}}]
"""


@pytest.fixture
def node(tmp_path, settings):
    """Start `gatepost serve` in a folder of that name; returns the process and its port, or how it failed."""
    started = []

    def start(name, url=settings.url):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "rules.yaml").write_text(RULES.format(name=name, url=url))
        command = [sys.executable, "-m", "gatepost", "serve"]
        started.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True))
        said = ""
        for line in started[-1].stderr:
            said += line
            if found := re.search(r"gatepost listens on .*127\.0\.0\.1:([0-9]+)", line):
                return started[-1], int(found[1])
        return started[-1].wait(60), said

    yield start
    for one in started:
        one.kill()
        one.wait(60)
        one.stderr.close()


def send(port, number):
    """Send a message; its number where it was accepted."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("ann@example.com", ["bob@example.net"], f"Subject: number {number}\r\n\r\nHi\r\n")
    return f"number {number}"


def listed(folder, *command):
    """What a command prints as JSON, line by line."""
    done = subprocess.run(
        [sys.executable, "-m", "gatepost", *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_two_nodes_have_one_store_and_what_one_has_accepted_outlives_it(node, tmp_path):
    (first, one), (_, other) = node("first"), node("second")
    accepted = [send(port, number) for number, port in enumerate((one, other) * 3)]
    accepted.append(send(one, 6))
    first.kill()
    accepted += [send(other, number) for number in (7, 8)]
    kept = listed(tmp_path / "first", "quarantine", "list", "--json")
    assert sorted(message["subject"] for message in kept) == accepted
    until = time.monotonic() + 60
    while len(journal := listed(tmp_path / "second", "journal", "--json")) < len(accepted):
        assert time.monotonic() < until
    assert {record["recipients"][0]["disposition"] for record in journal} == {"quarantined"}
    _, port = node("first")
    assert send(port, 9) == "number 9"


def test_a_store_that_cannot_be_used_is_an_error_of_the_settings_with_its_place(node, postgresql, settings):
    with postgresql.connect(settings.url) as connection:
        ((version,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        try:
            status, said = node("late")
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", [version])
    assert status == 2
    assert re.search(r"rules\.yaml:3:14: the store postgresql://\S+ is of version 9999, newer", said)


def test_a_server_that_is_not_there_fails_the_start_and_may_be_back_later(node):
    status, said = node("early", url="postgresql://gatepost@127.0.0.1:1/mail")
    assert status == 1
    assert "gatepost: the store postgresql://127.0.0.1:1/mail cannot be reached" in said
