"""The figures of docs/capacity.md: defaults are those of the program, sizes on disk are measured."""

import asyncio
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from gatepost.config.limits import Limits
from gatepost.config.store import Keep, StoreSettings
from gatepost.metrics import METRICS
from gatepost.model.mail import Stage, new_id
from gatepost.model.verdict import Evaluation, Result
from gatepost.store import Box, Kept, open_store
from gatepost.store.sql.store import SqlStore
from gatepost.testing import make_message, make_record, make_transaction
from gatepost.units import number_of_bytes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "capacity.md").read_text()
DISK = {
    name: int(number)
    for name, number in re.findall(r"^\| (.+?) \| ([0-9]+) \|$", PAGE.partition("## Disk")[2], re.MULTILINE)
}
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus-alerts.yaml").read_text())["groups"][0]["rules"]


async def bytes_of_each(folder, count, *, recipients=1, rules=0, content=b""):
    """The size of a store divided by the number of its records."""
    store = open_store(StoreSettings(url="sqlite:///gatepost.db"), folder)
    addresses = tuple(f"bob{number}@example.com" for number in range(recipients))
    transaction = make_transaction(make_message(subject="Your order of November"), recipients=addresses)
    asked = tuple(
        Evaluation(
            rule=f"rule-{number}", stage=Stage.MESSAGE, result=Result.PASS, action=None, observed=False,
            reason="", recipients=(), seconds=0.0012,
        )
        for number in range(rules)
    )  # fmt: skip
    written = []
    for number in range(count):
        record = replace(
            make_record(transaction),
            id=new_id(),
            session_id=new_id(),
            evaluations=asked,
            message_id=f"<{new_id()}.{number}@mail.example.org>",
            mail_from=f"alice{number % 500}@example.org",
            client=f"192.0.{number % 250}.{number % 200}",
            upstream="mail.example.com:25",
            upstream_reply="250 2.0.0 Ok: queued as 4F2KQ13TbVz",
        )
        kept = Kept(
            id=new_id(), box=Box.INBOX, mail_from=record.mail_from, recipients=("bob@example.com",),
            prepended=b"", content=content, rule="words", reason="viagra in the subject",
        )  # fmt: skip
        if content:
            written.append(store.commit(record, [kept]))
        else:
            store.journal(record)
    await asyncio.gather(*written)
    await store.close()
    size = (folder / "gatepost.db").stat().st_size / count
    (folder / "gatepost.db").unlink()
    return size


async def test_sizes_on_disk_are_those_of_the_page(tmp_path):
    one = await bytes_of_each(tmp_path, 3000)
    ten = await bytes_of_each(tmp_path, 1000, recipients=10)
    asked = await bytes_of_each(tmp_path, 1000, rules=5)
    kept = await bytes_of_each(tmp_path, 1000, content=os.urandom(1000))
    measured = {
        "the journal record of a message for one recipient": one,
        "each further recipient": (ten - one) / 9,
        "each rule that was asked": (asked - one) / 5,
        "a kept message (inbox, quarantine), beside its own size": kept - one - 1000,
    }
    assert {name: pytest.approx(size, rel=0.2) for name, size in measured.items()} == DISK


def test_defaults_are_those_of_the_program():
    bounds = dict(re.findall(r"^\| `limits\.(\w+)` \| (\S+) \|", PAGE, re.MULTILINE))
    assert bounds
    for name, default in bounds.items():
        assert getattr(Limits(), name) == (
            number_of_bytes(default) if default.endswith("B") else int(default)
        ), name
    found = re.search(r"in each worker \| ([\d,]+), or (\d+) MiB \|", PAGE)
    assert found.groups() == (f"{SqlStore.BACKLOG_LIMIT:,}", f"{SqlStore.BACKLOG_BYTES >> 20}")
    assert Keep().journal == 1_000_000
    assert re.search(r"`store\.keep\.messages` \((\d+)", PAGE)[1] == str(Keep().messages)
    unit = (ROOT / "deploy" / "gatepost.service").read_text()
    (files,) = re.findall(r"`(LimitNOFILE=\d+)`", PAGE)
    assert files in unit


def test_the_metrics_and_alerts_that_it_names_exist():
    metrics = {f"gatepost_{metric.name}{'_total' if metric.kind == 'counter' else ''}" for metric in METRICS}
    assert set(re.findall(r"`(gatepost_\w+)`", PAGE)) <= metrics
    assert set(re.findall(r"`(Gatepost[A-Z]\w+)`", PAGE)) <= {rule["alert"] for rule in ALERTS}


@pytest.mark.real("promtool")
def test_its_command_accepts_the_alerts():
    (command,) = re.findall(r"^```sh\n(.*)\n```", PAGE, re.MULTILINE)
    program, *arguments = command.split()
    done = subprocess.run(
        [shutil.which(program), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
