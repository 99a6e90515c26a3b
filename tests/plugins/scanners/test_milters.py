"""The milters of Debian behind Postfix and behind the gateway: the same message, and the same reply.

Only the Received field differs, and what a milter makes of the time.
"""

import contextlib
import itertools
import random
import re
import shutil
import smtplib
import struct
import subprocess
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

sys.path.insert(0, str(Path(__file__).parent))
from debian_scanners import CLAMAV_MILTER, OPENDKIM, milter
from ports import free_port
from scanner_servers import EICAR, GTUBE

sys.path.insert(0, str(Path(__file__).parents[1] / "milter"))
from scripted_milter import ScriptedMilter, packet

pytestmark = [
    pytest.mark.long,
    pytest.mark.real("postfix", "opendkim", "opendmarc", "clamav-milter", "spamass-milter", "rspamd"),
]

NAME, SENDER, RECIPIENTS = "mx.example.net", "ann@example.com", ["bob@example.org", "carl@example.org"]
OPENDMARC = """\
Socket inet:{port}@127.0.0.1
TrustedAuthservIDs mx.example.net
RejectFailures true
Syslog false
PublicSuffixList {home}/suffixes
"""
MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
maillog_file = {home}/log
maillog_file_prefixes = {home}
myhostname = mx.example.net
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
default_transport = smtp:[127.0.0.1]:{upstream}
smtp_tls_security_level = none
smtp_destination_recipient_limit = 50
milter_default_action = tempfail
local_header_rewrite_clients =
"""
SERVICES = """
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
HEAD = b"From: Ann <ann@example.com>\r\nTo: bob@example.org\r\nSubject: Minutes\r\n"
HEAD += b"Message-ID: <1@example.com>\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n"
MESSAGES = {
    "plain": HEAD + b"\r\nHello\r\n",
    "blanks": HEAD + b"X-A:  two blanks\r\nX-B:none\r\nX-C: folded\r\n\tonce\r\n  twice \r\n\r\nHello\r\n",
    "twice": HEAD + b"X-Two: 1\r\nx-two: 2\r\nX-Old: a\r\nX-Two: 3\r\nX-OLD: b\r\n\r\nHello\r\n",
    "dots": HEAD + b"\r\n.\r\n..\r\n.dot\r\n\r\n\r\n",
    "no body": HEAD + b"\r\n",
    "8 bit": HEAD + "X-Name: Jürgen\r\n\r\nGrüße\r\n".encode(),
    "long": HEAD + b"\r\n" + b"".join(b"%06d %s\r\n" % (at, b"x" * 60) for at in range(3000)),
    "checked before": HEAD
    + b"X-Virus-Scanned: by a friend\r\nX-Virus-Status: Clean\r\nX-Spam-Flag: NO\r\n\r\nHi\r\n",
    "claims": b"Authentication-Results: mx.example.net; dkim=pass header.d=example.com\r\n"
    + HEAD
    + b"\r\nHi\r\n",
    "no author": HEAD.partition(b"\r\n")[2] + b"\r\nHello\r\n",
    "virus": HEAD + b"\r\n" + EICAR + b"\r\n",
    "spam": HEAD + b"\r\n" + GTUBE.encode() + b"\r\n",
    "changed envelope": HEAD + b"X-Milter: yes\r\nX-Two: 1\r\nX-Two: 2\r\nX-Old: a\r\n\r\nHello\r\n",
    "rejected": HEAD + b"X-Action: reject\r\n\r\nHello\r\n",
    "later": HEAD + b"X-Action: soft reject\r\n\r\nHello\r\n",
    "inserted": HEAD + b"X-Order: yes\r\n\r\nHello\r\n",
    "rewritten": HEAD + b"X-Action: rewrite subject\r\n\r\nHello\r\n",
}


@pytest.fixture(scope="module")
def milters(tmp_path_factory, clamd, spamd, rspamd):
    """The port of each."""
    home = tmp_path_factory.mktemp("milters")
    key = generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (home / "sel.private").write_bytes(private)
    (home / "sel.private").chmod(0o600)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = f"v=DKIM1; k=rsa; p={b64encode(public).decode()}"
    (home / "keys").write_text(f"sel._domainkey.example.com {record}\n")
    (home / "inside").write_text("127.0.0.1\n")
    (home / "nobody").write_text("192.0.2.1\n")
    (home / "suffixes").write_text("com\nnet\norg\n")
    ports = {name: free_port() for name in ("sign", "sign simple", "verify", "dmarc", "clamav", "spamass")}
    simple = {"canonicalization": "simple/simple", "hosts": "inside"}
    relaxed = {"canonicalization": "relaxed/relaxed", "hosts": "inside"}
    for name, values in {
        "sign": relaxed,
        "sign simple": simple,
        "verify": relaxed | {"hosts": "nobody"},
    }.items():
        (home / f"{name}.conf").write_text(OPENDKIM.format(port=ports[name], home=home, **values))
    (home / "dmarc.conf").write_text(OPENDMARC.format(port=ports["dmarc"], home=home))
    address = clamd.addresses["unix"]
    (home / "clamav.conf").write_text(CLAMAV_MILTER.format(port=ports["clamav"], clamd=address))
    spamd_port = spamd.addresses["tcp"].rpartition(":")[2]
    commands = {
        name: ["opendkim", "-f", "-x", f"{home}/{name}.conf"] for name in ("sign", "sign simple", "verify")
    }
    commands["dmarc"] = ["opendmarc", "-f", "-c", f"{home}/dmarc.conf"]
    commands["clamav"] = ["clamav-milter", "-c", f"{home}/clamav.conf"]
    commands["spamass"] = [
        "spamass-milter",
        "-p",
        f"inet:{ports['spamass']}@127.0.0.1",
        "-r",
        "15",
        "--",
        "-p",
        spamd_port,
    ]
    with contextlib.ExitStack() as stack:
        daemons = []
        for name, command in commands.items():
            folder = home / f"of {name}"
            folder.mkdir()
            daemons.append(stack.enter_context(milter(folder, ports[name], command)))
        # each takes seconds to end, so all are told at once
        stack.callback(lambda: [daemon.process.terminate() for daemon in daemons])
        scripted = ScriptedMilter()
        stack.callback(scripted.close)
        ports["scripted"] = scripted.address.rpartition(":")[2]
        yield ports | {
            "script": scripted,
            "rspamd": rspamd.addresses["milter"].rpartition(":")[2],
            "key": record,
        }


@pytest.fixture(scope="module")
def postfix(milters):
    """Sends a message through Postfix with these milters: its reply, and what arrives."""
    with tempfile.TemporaryDirectory(prefix="postfix", dir="/tmp") as home, FakeUpstream() as upstream:
        Path(home).chmod(0o755)
        ports, lines = {}, []
        for names in CHAINS:
            ports[names] = free_port()
            each = ",".join(f"inet:127.0.0.1:{milters[name]}" for name in names)
            lines.append(f"127.0.0.1:{ports[names]} inet n - n - - smtpd -o {{smtpd_milters={each}}}\n")
        (Path(home) / "main.cf").write_text(MAIN.format(home=home, upstream=upstream.port))
        (Path(home) / "master.cf").write_text("".join(lines) + SERVICES)
        for folder in ("queue", "data"):
            (Path(home) / folder).mkdir()
        shutil.chown(Path(home) / "data", "postfix")
        command = ["postfix", "-c", home]
        subprocess.run([*command, "start"], check=True, capture_output=True)
        try:
            yield lambda names, content: sent(ports[names], upstream, content, "Postfix")
        finally:
            subprocess.run([*command, "abort"], check=False, capture_output=True)


@pytest.fixture(scope="module")
def gatepost(milters):
    """The same through the gateway."""
    with FakeUpstream() as upstream, running_gateway({}, upstream=upstream) as gateway:

        def send(names, content):
            rules = [
                {
                    "name": name.replace(" ", "-"),
                    "filter": "milter",
                    "with": {"address": f"127.0.0.1:{milters[name]}", "hostname": NAME},
                }
                for name in names
            ]
            to = f"smtp://127.0.0.1:{upstream.port}"
            gateway.reload({"rules": rules, "relay": [{"recipients": "*@*", "to": to}], "hostname": NAME})
            return sent(gateway.port, upstream, content, "Gatepost")

        yield send


def sent(port, upstream, content, server):
    """The reply to the message, and sender, recipients and bytes as they arrive, without Received."""
    before = len(upstream.messages)
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.com", timeout=60) as client:
        client.ehlo()
        code, text = client.mail(SENDER, ["BODY=8BITMIME"])
        if code != 250:
            return f"{code} {text.decode()}", None
        for recipient in RECIPIENTS:
            code, text = client.rcpt(recipient)
            if code != 250:
                return f"{code} {text.decode()}", None
        code, text = client.data(content)
    reply = f"{code} {text.decode()}"
    if code != 250:
        return reply, None
    assert upstream.wait_until(lambda server: len(server.messages) > before, 60)
    message = upstream.messages[-1]
    received = re.search(
        rb"^Received: [^\n]*\n(?:[ \t][^\n]*\n)*?[^\n]*\(" + server.encode() + rb"\).*\n(?:[ \t].*\n)*",
        message.content,
        re.MULTILINE,
    )
    rest = message.content.replace(received[0], b"", 1)
    return "250", (message.mail_from, sorted(one.address for one in message.recipients), rest)


ALIKE = [
    *(
        ((milter,), name)
        for milter in ("sign", "sign simple")
        for name in ("plain", "blanks", "twice", "dots", "no body", "8 bit", "long")
    ),
    *((("verify",), name) for name in ("plain", "claims", "long", "no author")),
    *((("dmarc",), name) for name in ("plain", "claims", "no author", "8 bit")),
    *((("clamav",), name) for name in ("plain", "virus", "checked before", "long", "twice")),
    *((("spamass",), name) for name in ("plain", "spam", "checked before", "8 bit")),
    *((("rspamd",), name) for name in ("plain", "rejected", "later", "inserted", "rewritten", "twice")),
    *((("clamav", "spamass", "sign"), name) for name in ("plain", "virus", "blanks")),
    *((("verify", "dmarc", "rspamd"), name) for name in ("claims", "rewritten")),
]
CHAINS = [*dict.fromkeys(names for names, _ in ALIKE), ("scripted",)]


def without_time(found):
    """What arrived, without a signature's time and what depends on it."""
    reply, arrived = found
    if arrived is None:
        return reply, None
    sender, recipients, content = arrived
    content = re.sub(rb"(\tt=)\d+(;)", rb"\1TIME\2", content)
    content = re.sub(rb"(\tb=)[A-Za-z0-9+/=\r\n\t ]+(?=\r\n[^\t ])", rb"\1SIGNATURE", content)
    return reply, (sender, recipients, content)


@pytest.mark.parametrize(("names", "message"), ALIKE, ids=[f"{'+'.join(n)}, {m}" for n, m in ALIKE])
def test_postfix_and_the_gateway_deliver_the_same_and_reply_the_same(
    postfix, gatepost, milters, names, message
):
    content = MESSAGES[message]
    there, here = postfix(names, content), gatepost(names, content)
    assert without_time(here) == without_time(there)
    if names[-1].startswith("sign") and here[1]:
        for _, arrived in (there, here):
            assert dkim.verify(arrived[2], dnsfunc=lambda *_, **__: milters["key"].encode())


def test_a_change_of_everything_is_the_same_but_for_cr_that_postfix_leaves_in_folds(postfix, gatepost):
    """rspamd sends folds as CRLF, and Postfix writes a CRLF for each LF."""
    names, content = ("verify", "dmarc", "rspamd"), MESSAGES["changed envelope"]
    there, here = postfix(names, content), gatepost(names, content)
    assert there[1][2].count(b"\r\r\n") == 1
    assert (here[0], here[1][:2]) == (there[0], there[1][:2])
    assert here[1][2] == there[1][2].replace(b"\r\r\n", b"\r\n")
    assert here[1][:2] == ("other@example.org", [*RECIPIENTS, "more@example.com"])


@pytest.mark.parametrize("command", [b"M", b"R", b"L", b"B", b"E"])
@pytest.mark.parametrize(
    "answer",
    [
        packet(b"r"),
        packet(b"t"),
        packet(b"y", b"554 5.7.7 100%% no\0"),
        packet(b"y", b"450-4.2.0 one\r\n450 4.2.0 two\0"),
    ],
)
def test_refusals_are_in_the_words_of_postfix(postfix, gatepost, milters, command, answer):
    milters["script"].answers = {command: answer}
    there, here = (send(("scripted",), MESSAGES["plain"]) for send in (postfix, gatepost))
    assert here == there
    assert here[0][0] in "45"


@pytest.mark.parametrize("indices", [*itertools.permutations((0, 1, 3)), (0, 0, 1), (1, 1, 2), (2, 1, 99)])
def test_fields_are_inserted_where_postfix_inserts_them(postfix, gatepost, milters, indices):
    inserted = (
        packet(b"i", struct.pack("!I", index) + b"X-%d\0%d\0" % (place, index))
        for place, index in enumerate(indices)
    )
    milters["script"].answers = {b"E": b"".join(inserted) + packet(b"c")}
    there, here = (send(("scripted",), MESSAGES["plain"]) for send in (postfix, gatepost))
    assert here == there


def any_changes(chosen):
    """Some changes of fields, and perhaps of the body, as packets."""
    for _ in range(chosen.randint(1, 5)):
        letter = chosen.choice((b"h", b"i", b"m"))
        number = b"" if letter == b"h" else struct.pack("!I", chosen.choice((0, 1, 2, 3, 5, 99)))
        name = chosen.choice((b"X-Two", b"x-two", b"Subject", b"X-Old", b"X-New", b"From", b"Received"))
        value = chosen.choice((b"new", b"a\n\tb", b" lead", b"a\n b\n\tc", b"", b"trail "))
        yield packet(letter, number + name + b"\0" + value + b"\0")
    for _ in range(chosen.randint(0, 2)):
        yield packet(b"b", chosen.choice((b"body\r\n", b"no end", b".dot\r\n..\r\n", b"a\nb\n", b"\r\n\r\n")))


@pytest.mark.parametrize("seed", range(40))
def test_any_changes_are_made_as_postfix_makes_them(postfix, gatepost, milters, seed):
    chosen = random.Random(seed)
    script = milters["script"]
    script.steps = chosen.choice((0, 0x100000))  # who writes the blank after the colon
    script.answers = {b"E": b"".join(any_changes(chosen)) + packet(b"c")}
    message = MESSAGES[chosen.choice(("plain", "twice", "blanks", "dots", "no body"))]
    try:
        there, here = (send(("scripted",), message) for send in (postfix, gatepost))
    finally:
        script.steps = 0
    assert here == there


def through(address, content, **of_client):
    """Reply, and what arrives behind a gateway that asks this milter alone."""
    rule = {"name": "m", "filter": "milter", "with": {"address": address, "hostname": NAME, "names": False}}
    client = {"client": "192.0.2.9", "mail_from": SENDER, "recipients": RECIPIENTS} | of_client
    with FakeUpstream() as upstream:
        relay = [{"recipients": "*@example.org", "to": f"smtp://127.0.0.1:{upstream.port}"}]
        with running_gateway({"rules": [rule], "relay": relay}) as gateway:
            reply = gateway.send(make_transaction(content, **client))
    return reply.code, [message.content for message in upstream.messages]


@pytest.mark.parametrize("user", [None, "ann"])
def test_opendkim_signs_for_a_client_from_elsewhere_if_a_user_has_authenticated(milters, user):
    of_user = {"authenticated": user, "tls": "TLSv1.3"} if user else {}
    code, (content,) = through(f"127.0.0.1:{milters['verify']}", MESSAGES["plain"], **of_user)
    assert (code, b"\r\nDKIM-Signature: " in content) == (250, user is not None)


def test_spamass_milter_lets_mail_pass_unchecked_while_spamd_is_down(tmp_path):
    """That is its own answer: `on_error` decides about failures of the milter, not about those behind it."""
    port, nobody = free_port(), free_port()
    command = ["spamass-milter", "-p", f"inet:{port}@127.0.0.1", "-r", "15", "--", "-p", str(nobody)]
    with milter(tmp_path, port, command) as daemon:
        code, (content,) = through(daemon.addresses["tcp"], MESSAGES["spam"])
    assert (code, b"X-Spam" in content) == (250, False)


def test_clamav_milter_defers_mail_while_clamd_is_down(tmp_path):
    port = free_port()
    settings = CLAMAV_MILTER.format(port=port, clamd=f"unix:{tmp_path}/nobody")
    (tmp_path / "conf").write_text(settings)
    with milter(tmp_path, port, ["clamav-milter", "-c", f"{tmp_path}/conf"]) as daemon:
        assert through(daemon.addresses["tcp"], MESSAGES["plain"]) == (451, [])
