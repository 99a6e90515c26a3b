"""One rules.yaml with every engine that Gatepost can ask: their test strings, honest mail, and outages."""

import itertools
import json
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from gatepost.testing import FakeUpstream

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))
from every_engine import HEAD, TEST_STRINGS, attached, engines, in_base64, nested, plain
from hostile import hostile

pytestmark = [
    pytest.mark.long,
    pytest.mark.real("clamd", "rspamd", "spamd", "opendkim", "clamav-milter"),
]

NAMES = [
    "opendkim",
    "clamav",
    "yara",
    "office",
    "rspamd",
    "spamassassin",
    "clamav-milter",
    "web-service",
    "command",
]
DAEMONS = [name for name in NAMES if name not in ("yara", "office", "web-service", "command")]
LARGE = plain(b"x" * 78 + (b"\r\n" + b"x" * 78) * 80_000)
"""More than the system takes in for a server that does not read."""
SETTINGS = {"web": "127.0.0.1:0", "limits": {"header_size": "1MiB"}}
FILTER_SECONDS = 30
"""``limits.filter_time``."""
HONEST = {
    "plain": plain(b"Hello"),
    "base64": in_base64("Grüße".encode()),
    "attachment": attached(bytes(range(256)) * 40),
    "forwarded": nested(plain(b"Hello")),
    "no body": HEAD + b"\r\n",
    "dots": HEAD + b"\r\n.\r\n..\r\n.dot\r\n\r\n\r\n",
    "8 bit": HEAD + "X-Name: Jürgen\r\n\r\nGrüße\r\n".encode(),
    "blanks": HEAD + b"X-A:  two blanks\r\nX-B:none\r\nX-C: folded\r\n\tonce\r\n  twice \r\n\r\nHello \t\r\n",
    "long": HEAD + b"\r\n" + b"".join(b"%06d %s\r\n" % (at, b"x" * 60) for at in range(3000)),
}
WRITTEN = (
    rb"Received: from .+\r\n\tby .+ with E?SMTP id .+;?\r\n(?:\t.+\r\n)+",
    rb"Authentication-Results: mx\.example\.com;\s+dkim=none.*\r\n",
    rb"X-Virus-Scanned: clamav-milter .+\r\nX-Virus-Status: Clean\r\n",
)
"""The fields that the gateway, OpenDKIM and clamav-milter write."""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """All engines."""
    with engines(tmp_path_factory.mktemp("engines")) as started:
        yield started


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(running, upstream, tmp_path_factory, gateway_class, write_rules):
    """A gateway, and how it loads the rules with what each of them has besides."""
    folder = tmp_path_factory.mktemp("gateway")

    def write(rules):
        write_rules(folder, yaml.safe_dump({**SETTINGS, "rules": rules}), upstream.port)

    loaded = []

    def reload(rules):
        if rules == loaded:
            return
        loaded[:] = rules
        times = one.log.count(" reloaded") + 1
        write(rules)
        one.kill(signal.SIGHUP)
        one.logs(" reloaded", times)

    write([])
    one = gateway_class(folder, "serve", "-c", "rules.yaml")
    yield one, reload
    assert one.stop() == 0, one.log


@dataclass
class Sent:
    """What became of a message."""

    reply: str
    disposition: str
    results: dict[str, str]
    """By rule; what the last stage says."""
    reason: str
    """The first of a hit or a failure."""
    seconds: float
    """Of all rules together."""


@pytest.fixture(scope="module")
def send(gateway, wait_until):
    numbers = itertools.count()

    def sent(content, recipient="all@example.com"):
        sender = f"ann-{next(numbers)}@example.com"
        return found(gateway[0].send(content, recipient, sender=sender), sender)

    def found(reply, sender):
        """The record is written a little later."""
        records = []

        def written():
            records[:] = [one for one in gateway[0].journal() if one.mail_from == sender]
            return records

        wait_until(written, f"the record of {sender}")
        said = records[0].evaluations
        return Sent(
            reply,
            str(records[0].recipients[0].disposition),
            {one.rule: str(one.result) for one in said},
            next((one.reason for one in said if str(one.result) != "pass"), ""),
            sum(one.seconds for one in said),
        )

    sent.found = found
    return sent


@pytest.fixture
def each_alone(gateway, running):
    """Mail to the name of a rule is for this rule alone, that to ``all`` for all."""
    rules = running.rules(timeout="30s")
    for rule in rules:
        rule["when"] = {"recipient": [f"{rule['name']}@example.com", "all@example.com"]}
    gateway[1](rules)


def test_each_test_string_gets_its_verdict_in_every_form(each_alone, send):
    assert {*TEST_STRINGS, "opendkim"} == {*NAMES}
    for rule, (string, forms, expected) in TEST_STRINGS.items():
        for form, made in forms.items():
            sent = send(made(string), f"{rule}@example.com")
            assert sent.results == {rule: "hit"}, form
            found = (sent.reply, sent.disposition, sent.reason)
            assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def test_a_signature_is_verified_in_every_form_and_still_is_one_behind(each_alone, send, running, upstream):
    for content in (plain(b"Hello"), in_base64(b"Hello"), nested(plain(b"Hello"))):
        signed = running.signed(content)
        for written, result in ((signed, b"pass"), (signed.replace(b"Minutes", b"Hours"), b"fail")):
            assert send(written).disposition == "relayed"
            arrived = upstream.messages[-1].content
            assert b"\r\n\tdkim=%b " % result in arrived
            assert running.verifies(arrived) is (result == b"pass")


def test_honest_mail_passes_all_of_them_byte_for_byte_but_for_fields_that_are_written(
    each_alone, send, upstream
):
    for name, content in HONEST.items():
        sent = send(content)
        assert sent.disposition == "relayed", name
        hits = {"opendkim", "clamav-milter"}  # which change each message
        assert sent.results == {rule: "hit" if rule in hits else "pass" for rule in NAMES}, name
        arrived = upstream.messages[-1].content
        for field in WRITTEN:
            arrived, count = re.subn(field, b"", arrived)
            assert count == 1, (name, field)
        assert arrived == content, name


def test_hostile_messages_get_an_answer_and_end_no_engine(each_alone, send, running, upstream):
    for case, content in hostile(b"Hello").items():
        for rule in DAEMONS:
            sent = send(content, f"{rule}@example.com")
            assert sent.disposition in ("relayed", "deferred", "quarantined", "refused"), (rule, case)
            if rule == "opendkim" and sent.disposition == "relayed":
                assert upstream.messages[-1].content.endswith(content), case
    assert all(running.servers[name].process.poll() is None for name in DAEMONS)
    assert send(plain(b"Hello")).disposition == "relayed"


# Outages ---------------------------------------------------------------------------------------------------

ON_ERROR = {"defer": ("451 4.3.0", "deferred"), "skip": ("250 ", "relayed")}


def asked(gateway, path):
    """A page or an answer of the desk."""
    request = urllib.request.Request(f"http://{gateway.desk}{path}", headers=gateway.password)
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        return answer.read().decode()


@pytest.mark.parametrize("on_error", ON_ERROR)
def test_with_all_of_them_killed_on_error_decides_and_mail_flows_again_by_itself(
    gateway, running, send, wait_until, on_error
):
    one, reload = gateway
    reload(running.rules(timeout="30s", on_error=on_error, early=False))
    start = len(one.log)
    down = [*running.servers] if on_error == "skip" else ["opendkim"]  # behind it none has its turn
    for server in running.servers.values():
        server.kill()
    try:
        for _ in range(7):
            sent = send(plain(b"Hello"))
            assert (sent.reply[: len(ON_ERROR[on_error][0])], sent.disposition) == ON_ERROR[on_error]
            assert {rule for rule, result in sent.results.items() if result == "error"} == {*down}
            assert sent.seconds < FILTER_SECONDS

        def ready():
            return json.loads(asked(one, "/readyz"))["checks"]["rules"]

        expected = {"defer": "failed", "skip": "ok"}[on_error]
        wait_until(
            lambda: all(f"The rule {name} has no " in asked(one, "/overview") for name in down),
            "the desk shows them",
        )
        wait_until(lambda: ready() == expected, f"/readyz says {expected}")
        for name in down:
            assert len(re.findall(rf"rule {name} failed ", one.log[start:])) == 1
    finally:
        for server in running.servers.values():
            server.start()

    def flows():
        sent = send(plain(b"Hello"))
        return sent.disposition == "relayed" and "error" not in sent.results.values()

    wait_until(flows, "mail flows again")
    wait_until(lambda: ready() == "ok", "/readyz says so")
    for name in down:
        assert len(re.findall(rf"rule {name} answers again ", one.log[start:])) == 1


@pytest.mark.parametrize("on_error", ON_ERROR)
def test_with_all_of_them_silent_on_error_decides_in_time(gateway, running, send, on_error):
    gateway[1](running.rules(timeout="1s", on_error=on_error, early=False))
    with stopped(*(running.servers[name] for name in DAEMONS)):
        sent = send(plain(b"Hello"))
    assert (sent.reply[: len(ON_ERROR[on_error][0])], sent.disposition) == ON_ERROR[on_error]
    late = {rule for rule, result in sent.results.items() if result == "timeout"}
    assert late >= ({*DAEMONS} if on_error == "skip" else {"opendkim"})
    assert sent.seconds < FILTER_SECONDS


@contextmanager
def stopped(*daemons):
    """While they do nothing, the system takes what is sent to them."""
    for one in daemons:
        one.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in daemons:
            one.signal(signal.SIGCONT)


def waits(address):
    """Whether a server has not read all that was sent to it."""
    port = int(address.rpartition(":")[2])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == "01" and int(local[-4:], 16) == port and int(queues.partition(":")[2], 16):
            return True
    return False


def transacted(client, commands):
    """The reply to a small message."""
    client.say(*commands)
    client.socket.sendall(plain(b"Hello") + b".\r\n")
    return client.reply()


@pytest.mark.parametrize("on_error", ON_ERROR)
def test_one_that_is_killed_in_mid_message_fails_for_this_message_alone(
    gateway, running, send, wait_until, on_error
):
    rules = [rule for rule in running.rules(timeout="30s", on_error=on_error) if rule["name"] in DAEMONS]
    gateway[1]([{**rule, "when": {"recipient": f"{rule['name']}@example.com"}} for rule in rules])
    for name in DAEMONS:
        daemon, sender = running.servers[name], f"{name}-{on_error}@example.com"
        commands = [f"MAIL FROM:<{sender}>", f"RCPT TO:<{name}@example.com>", "DATA"]
        with gateway[0].client() as client:
            client.say("EHLO client.example.org", *commands)
            daemon.signal(signal.SIGSTOP)
            client.socket.sendall(LARGE + b".\r\n")
            wait_until(lambda daemon=daemon: waits(daemon.addresses["tcp"]), f"{name} is sent the message")
            daemon.kill()
            sent = send.found(client.reply(), sender)
            daemon.start()
            while (reply := transacted(client, commands)).startswith("451") and name == "clamav-milter":
                time.sleep(0.1)  # its own answer until it has found clamd
            assert reply.startswith("250 ")
        assert (sent.reply[: len(ON_ERROR[on_error][0])], sent.disposition) == ON_ERROR[on_error]
        assert sent.results == {name: "error"}
        assert daemon.addresses["tcp"] in sent.reason
