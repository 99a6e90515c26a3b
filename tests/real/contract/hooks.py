"""What schemathesis needs to know of Gatepost; it runs this file before its tests (SCHEMATHESIS_HOOKS)."""

import atexit
import contextlib
import json
import os
import smtplib
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

SMTP_PORT = int(os.environ["CONTRACT_SMTP_PORT"])
MESSAGE = b"""\
From: Shop <shop@example.org>
To: Bob <bob@example.com>
Subject: Your code
Date: Mon, 30 Nov 2026 08:00:00 +0000
Message-ID: <code@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: multipart/alternative; boundary=y

--y

Your code is 482913. https://shop.example/confirm?token=x1
--y
Content-Type: text/html

<p>Your code is <b>482913</b>. <a href="https://shop.example/confirm?token=x1">Confirm</a></p>
--y--
--x
Content-Type: application/pdf
Content-Disposition: attachment; filename=a.pdf

%PDF-1.4
--x--
""".replace(b"\n", b"\r\n")
ATTACHMENT = 5
"""The number of its attachment."""
MESSAGES = 4
PATIENT_SECONDS = 0.02
"""How long requests wait at most: the rest of what they ask for would only be slept."""

WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=10).filter(str.isalnum)
NAMES = st.sampled_from(["bob", "shop@example.org", "482913", "Your code", "welcome", "发票"])
VALUES = (WORDS | NAMES).map(lambda text: f'"{text}"' if " " in text else text)
TERMS = st.one_of(
    VALUES,
    st.builds(
        "{}{}:{}".format,
        st.sampled_from(["", "-"]),
        st.sampled_from(["from", "to", "cc", "subject", "header", "tag", "user", "mailbox", "rule", "id"]),
        VALUES,
    ),
    st.sampled_from(
        ["has:attachment", "is:unread", "-is:read", "is:quarantined", "larger:1KB", "smaller:5MB", "after:2h"]
    ),
)
schemathesis.openapi.format("message-query", st.lists(TERMS, min_size=1, max_size=3).map(" ".join))
ADDRESSES = st.sampled_from(["ann@example.com", "postmaster", '"a b"@example.com', "ü@example.com"])
schemathesis.openapi.format("mail-address", ADDRESSES)

FIELDS = st.sampled_from(["From: ann@example.org", "To: bob@example.com", "Subject: Hi", "X-Y: \xfc", "a:"])
SAVED = st.builds(
    lambda fields, body: "\n".join([*fields, "", body]).encode(),
    st.lists(FIELDS, min_size=1, max_size=5),
    st.text(max_size=50),
)
SEPARATOR = b"From ann@example.org Mon Nov 30 08:00:00 2026\n"
schemathesis.openapi.media_type("message/rfc822", SAVED)
schemathesis.openapi.media_type(
    "application/mbox",
    st.lists(SAVED.map(lambda saved: SEPARATOR + saved + b"\n\n"), min_size=1, max_size=3).map(b"".join),
)


class Desk:
    """What is there, and what each operation answered."""

    def __init__(self):
        self.missing = MESSAGES
        self.ids = {}
        self.calls = 0
        self.statuses = {}

    def refill(self, base_url, headers):
        """Send mail again after some was deleted or sent on, and note what can be asked for."""
        disarm = urllib.request.Request(f"{base_url}/api/v1/breakpoints", headers=headers, method="DELETE")
        urllib.request.urlopen(disarm, timeout=60).close()  # else one of them would hold what is sent
        send(self.missing)
        self.missing = 0
        request = urllib.request.Request(f"{base_url}/api/v1/messages?limit={MESSAGES}", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            messages = json.load(answer)["messages"]
        held = [message["id"] for message in messages if message["box"] == "quarantine"]
        self.ids = {"quarantine": held, "messages": [message["id"] for message in messages]}
        self.ids["journal"] = self.ids["conversations"] = self.ids["messages"]

    def arm(self, base_url, headers):
        """Arm a breakpoint that holds nothing; gives its id, or None where there can be none."""
        never = {"stage": "connect", "when": {"not": {"client": "::/0"}}}
        arm = urllib.request.Request(
            f"{base_url}/api/v1/breakpoints",
            json.dumps(never).encode(),
            {**headers, "content-type": "application/json"},
        )
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(arm, timeout=60) as answer:
            return json.load(answer)["id"]
        return None


desk = Desk()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Wait for nothing, see that there is mail to ask for, and ask for it every other time."""
    operation = case.operation.definition.raw
    timeout = (case.query or {}).get("timeout")
    with contextlib.suppress(TypeError, ValueError):
        if PATIENT_SECONDS < float(timeout) <= 300:
            case.query["timeout"] = PATIENT_SECONDS
    positive = case.meta.generation.mode.is_positive
    is_breakpoint = operation["operationId"] == "armBreakpoint" and isinstance(case.body, dict)
    if is_breakpoint and positive and case.body.get("when") is not None:
        case.body["when"] = [{"client": "192.0.2.0/24"}, {"not": {"client": "::/0"}}][desk.calls % 2]
    if operation["operationId"] == "waitForMessages":
        case.query.setdefault("timeout", PATIENT_SECONDS)
    schema = case.operation.schema
    here = schema.get_base_url().rstrip("/"), dict(schema.config.headers or {})
    if desk.missing:
        desk.refill(*here)
    if operation["operationId"] == "disarmBreakpoint" and positive and (armed := desk.arm(*here)):
        case.path_parameters["breakpoint"] = armed
    desk.calls += 1
    ids = desk.ids.get(case.path.split("/")[3])
    if ids and desk.calls % 3 and "id" in case.path_parameters and case.meta.generation.mode.is_positive:
        case.path_parameters["id"] = ids[desk.calls % len(ids)]
        if "number" in case.path_parameters:
            case.path_parameters["number"] = ATTACHMENT
        if isinstance(case.body, dict) and case.body.get("to"):
            case.body["to"] = ["ann@example.com"]


@schemathesis.hook
def after_call(context, case, response):
    """Note what was answered, and whether something was deleted or sent on."""
    name = case.operation.definition.raw["operationId"]
    about_mail = case.path.split("/")[3] not in ("breakpoints", "held")
    about_mail = about_mail and name not in ("importMessages", "learnMessage")
    if response.request.method in ("DELETE", "POST") and response.status_code == 200 and about_mail:
        desk.missing = MESSAGES
    if response.request.method == case.operation.method.upper():
        desk.statuses.setdefault(name, Counter())[response.status_code] += 1


@atexit.register
def write_statuses():
    """For the test: whether each operation was reached."""
    Path("statuses.json").write_text(json.dumps(desk.statuses))


def send(count):
    """Messages for the inbox and for quarantine, each in a transaction of its own session."""
    for number in range(count):
        sender = ["shop@example.org", "held@example.org"][number % 2]
        with smtplib.SMTP("127.0.0.1", SMTP_PORT, timeout=60) as smtp:
            smtp.sendmail(sender, [f"bob+t{number}@example.com"], MESSAGE)
