"""A filter whose verdicts are wrong, in the running gateway: what on_error says, one record, one copy."""

import smtplib

import pytest
from gatepost.testing import running_gateway

STAGES = ("connect", "helo", "mail", "rcpt", "message")
FOUND = {"defer": (451, "deferred"), "skip": (250, "inbox"), "quarantine": (250, "quarantined")}
CLIENTS = {"defer": "127.0.0.11", "skip": "127.0.0.12", "quarantine": "127.0.0.13"}
FILTERS = """\
from gatepost import AddHeader, Verdict, hookimpl

WRONG = {
    "action": lambda: Verdict(reason="r", action="reject"),
    "reply": lambda: Verdict(reason="r", reply="550 no"),
    "timing": lambda: Verdict(reason="r", timing=5),
    "matches": lambda: Verdict(reason="r", matches=("x",)),
    "reason": lambda: Verdict(reason=None),
    "edits": lambda: Verdict(reason="r", edits=AddHeader("X-A", "b")),
    "late": lambda: got_round(),
}


def got_round():
    verdict = Verdict(reason="r")
    object.__setattr__(verdict, "action", "reject")
    object.__setattr__(verdict, "matches", ("x",))
    return verdict


class Bad:
    def __init__(self, at: str, what: str):
        self.what = what
        for stage in ("connect", "helo", "mail", "rcpt", "message"):
            if stage != at:
                setattr(self, f"filter_{stage}", None)

    @hookimpl
    async def filter_connect(self, session):
        return WRONG[self.what]()

    @hookimpl
    def filter_helo(self, session):
        return WRONG[self.what]()

    @hookimpl
    async def filter_mail(self, session):
        return WRONG[self.what]()

    @hookimpl
    def filter_rcpt(self, recipient):
        return WRONG[self.what]()

    @hookimpl
    async def filter_message(self, transaction):
        return WRONG[self.what]()

    @hookimpl
    def report_transaction(self, record):
        return WRONG[self.what]()
"""


def when(stage, on_error):
    """A condition that is known at that stage, and not before."""
    return {
        "connect": {"client": CLIENTS[on_error]},
        "helo": {"helo": f"{on_error}.example"},
        "mail": {"sender": f"{on_error}@mail.example"},
        "rcpt": {"recipient": f"rcpt-{on_error}@example.com"},
        "message": {"recipient": f"message-{on_error}@example.com"},
    }[stage]


def send(gateway, stage, on_error):
    """The code of the reply that ends the transaction."""
    source = CLIENTS[on_error] if stage == "connect" else "127.0.0.1"
    helo = f"{on_error}.example" if stage == "helo" else "client.example"
    sender = f"{on_error}@mail.example" if stage == "mail" else "a@example.org"
    local_part = f"{stage}-{on_error}" if stage in ("rcpt", "message") else "b"
    with smtplib.SMTP(local_hostname=helo, source_address=(source, 0), timeout=60) as smtp:
        replies = [smtp.connect(gateway.host, gateway.port)[0]]
        for command in (f"EHLO {helo}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{local_part}@example.com>"):
            if replies[-1] in (220, 250):
                replies.append(smtp.docmd(command)[0])
        if replies[-1] == 250:
            replies.append(smtp.data(b"Subject: x\r\n\r\ny\r\n")[0])
        return replies[-1]


@pytest.mark.parametrize("what", ["action", "reply", "timing", "matches", "reason", "edits", "late"])
def test_what_on_error_says_is_what_the_client_the_journal_and_the_store_have(what, caplog):
    places = [(stage, on_error) for stage in STAGES for on_error in FOUND]
    rules = [
        {
            "name": f"{stage}-{on_error}",
            "filter": "./bad.py:Bad",
            "with": {"at": stage, "what": what},
            "when": when(stage, on_error),
            "on_error": on_error,
        }
        for stage, on_error in places
    ]
    with running_gateway({"rules": rules}, files={"bad.py": FILTERS}) as gateway:
        kept = 0
        for number, (stage, on_error) in enumerate(places, 1):
            code, end = FOUND[on_error]
            assert send(gateway, stage, on_error) == code, (stage, on_error)
            record, *others = gateway.journal()
            assert len(others) == number - 1, "each transaction is journalled once"
            assert {str(one.disposition) for one in record.recipients} <= {end}
            assert bool(record.recipients) == (code == 250 or stage in ("rcpt", "message"))
            (evaluation,) = record.evaluations
            assert (evaluation.rule, evaluation.result) == (f"{stage}-{on_error}", "error")
            assert f"Verdict.{'action' if what == 'late' else what}" in evaluation.reason
            kept += end == "quarantined"
            assert len(gateway.quarantine()) == kept
    failures = {entry.getMessage().partition(":")[0] for entry in caplog.records if entry.levelname != "INFO"}
    assert {message.split()[0] for message in failures} == {"rule"}, "the rules failed, and nothing else"
