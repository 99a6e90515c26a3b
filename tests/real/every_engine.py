"""All engines that Gatepost can ask, each on a free port, and their public test strings.

Scanners and milters are Debian's own; the program and the web service are small ones of these tests.
"""

import base64
import io
import json
import sys
import threading
import zipfile
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))
sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "scanners"))
from compound import compound, vba
from debian_scanners import CLAMAV_MILTER, OPENDKIM, clamd, milter, rspamd, spamd
from ports import free_port
from scanner_servers import EICAR, GTUBE

OWN = "GATEPOST-TEST-" + "STRING"
"""For the engines that have no public one."""
YARA = f'rule own_test {{ strings: $a = "{OWN}" condition: $a }}\n'
COMMAND = f"""#!/usr/bin/python3 -I
import email, sys
message = email.message_from_binary_file(sys.stdin.buffer)
if any("{OWN}".encode() in (part.get_payload(decode=True) or b"") for part in message.walk()):
    print("the program found it", file=sys.stderr)
    sys.exit(75)
"""
MACRO = compound({"WordDocument": bytes(32), **vba(b"Sub AutoOpen()\r\nEnd Sub\r\n", "Macros/")})
HEAD = b"From: Ann <ann@example.com>\r\nTo: bob@example.org\r\nSubject: Minutes\r\nMIME-Version: 1.0\r\n"
HEAD += b"Message-ID: <1@example.com>\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n"


# Messages --------------------------------------------------------------------------------------------------


def encoded(content):
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def plain(content):
    return HEAD + b"Content-Type: text/plain\r\n\r\n" + content + b"\r\n"


def in_base64(content):
    head = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return HEAD + head + encoded(content + b"\r\n")


def attached(content, name="a.bin"):
    head = f'Content-Disposition: attachment; filename="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return parts(b"Content-Type: application/octet-stream\r\n" + head.encode() + encoded(content))


def zipped(content, name="a.bin"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return attached(file.getvalue(), "a.zip")


def nested(message):
    """The message forwarded, and that once more."""
    for _ in range(2):
        message = parts(b"Content-Type: message/rfc822\r\n\r\n" + message)
    return message


def parts(part):
    boundary = b"b%d" % len(part)
    text = b"Content-Type: text/plain\r\n\r\nSee below.\r\n"
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, one) for one in (text, part))
    return HEAD + b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n%b--%b--\r\n" % (
        boundary,
        body,
        boundary,
    )


# Engines ---------------------------------------------------------------------------------------------------


class Service:
    """A web service that tags each message with the test string in one of its texts."""

    def __init__(self):
        self.addresses = {"tcp": f"127.0.0.1:{free_port()}"}
        self.start()

    def start(self):
        host, _, port = self.addresses["tcp"].partition(":")
        self._server = ThreadingHTTPServer((host, int(port)), _Answer)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def kill(self):
        self._server.shutdown()
        self._server.server_close()


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        mail = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"id": mail["id"], "action": "pass"}
        if any(OWN in text["text"] for text in mail["message"]["texts"]):
            answer |= {"action": "tag", "reason": "the service found it", "tag": {"add": {"X-Kind": "test"}}}
        octets = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, *_):
        """The log is of no interest."""


class Engines:
    """Those that are servers, by the names of their rules."""

    def __init__(self, home, stack):
        def folder(name):
            (home / name).mkdir()
            return home / name

        enter = stack.enter_context
        (home / "own.yar").write_text(YARA)
        (home / "check.py").write_text(COMMAND)
        (home / "check.py").chmod(0o755)
        key = generate_private_key(65537, 2048)
        self._private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.record = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
        self.home = home
        virus = enter(clamd(folder("clamd"), stream_bytes=20 << 20))
        self.servers = {
            "clamav": virus,
            "rspamd": enter(rspamd(folder("rspamd"), max_message="20Mb")),
            "spamassassin": enter(spamd(folder("spamd"))),
            "opendkim": enter(self._opendkim(folder("opendkim"))),
            "clamav-milter": enter(self._clamav_milter(folder("clamav-milter"), virus.addresses["unix"])),
            "web-service": Service(),
        }
        stack.callback(self.servers["web-service"].kill)

    def _opendkim(self, home):
        (home / "sel.private").write_bytes(self._private)
        (home / "sel.private").chmod(0o600)
        (home / "keys").write_text(f"sel._domainkey.example.com {self.record}\n")
        (home / "nobody").write_text("192.0.2.1\n")
        port, settings = free_port(), {"canonicalization": "simple/simple", "hosts": "nobody"}
        (home / "conf").write_text(OPENDKIM.format(home=home, port=port, **settings))
        return milter(home, port, ["/usr/sbin/opendkim", "-f", "-x", f"{home}/conf"])

    def _clamav_milter(self, home, address):
        port = free_port()
        (home / "conf").write_text(CLAMAV_MILTER.format(port=port, clamd=address))
        return milter(home, port, ["/usr/sbin/clamav-milter", "-c", f"{home}/conf"])

    def signed(self, content):
        return dkim.sign(content, b"sel", b"example.com", self._private) + content

    def verifies(self, content):
        return dkim.verify(content, dnsfunc=lambda *_, **__: self.record.encode())

    def rules(self, *, early=True, **more):
        """The rules that ask them all, in order; ``more`` is what each has besides.

        With ``early`` the milters are asked at each stage.
        """
        where = {name: server.addresses["tcp"] for name, server in self.servers.items()}
        milters = {"hostname": "mx.example.com", "names": False, "early": early}
        rules = {
            "opendkim": {"filter": "milter", "with": {"address": where["opendkim"], **milters}},
            "clamav": {
                "filter": "clamav",
                "with": {"address": where["clamav"], "watch": False},
                "action": "reject",
                "reply": "550 5.7.1 This message holds a virus",
            },
            "yara": {
                "filter": "yara",
                "with": {"rules": [str(self.home / "own.yar")]},
                "isolation": "process",
                "action": "quarantine",
            },
            "office": {"filter": "office", "reply": "554 5.7.1 No macros, please"},
            "rspamd": {"filter": "rspamd", "with": {"address": where["rspamd"]}},
            "spamassassin": {
                "filter": "spamassassin",
                "with": {"address": where["spamassassin"]},
                "action": "quarantine",
            },
            "clamav-milter": {"filter": "milter", "with": {"address": where["clamav-milter"], **milters}},
            "web-service": {
                "filter": "web_service",
                "with": {"url": f"http://{where['web-service']}/"},
            },
            "command": {"filter": "command", "with": {"command": [str(self.home / "check.py")]}},
        }
        return [{"name": name, **rule, **more} for name, rule in rules.items()]


@contextmanager
def engines(home):
    """Start them all."""
    with ExitStack() as stack:
        yield Engines(home, stack)


TEXTS = {
    "plain": plain,
    "base64": in_base64,
    "nested": lambda content: nested(plain(content)),
    "nested, in base64": lambda content: nested(in_base64(content)),
}
FILES = {
    "attached": attached,
    "zipped": zipped,
    "nested, attached": lambda content: nested(attached(content)),
    "nested, zipped": lambda content: nested(zipped(content)),
}
TEST_STRINGS = {
    "clamav": (
        EICAR,
        TEXTS | FILES,
        ("550 5.7.1 This message holds a virus", "refused", "ClamAV found Eicar-Test.UNOFFICIAL"),
    ),
    "yara": (OWN.encode(), TEXTS | FILES, ("250", "quarantined", "YARA rule own_test in ")),
    "office": (MACRO, FILES, ("554 5.7.1 No macros, please", "refused", "macros in attachment a.")),
    "rspamd": (GTUBE.encode(), TEXTS, ("550 5.7.1", "refused", "rspamd: reject, score 15 of 15")),
    "spamassassin": (GTUBE.encode(), TEXTS, ("250", "quarantined", "SpamAssassin: score 1000 of 5: GTUBE")),
    "clamav-milter": (
        EICAR,
        TEXTS | FILES,
        ("550 5.7.1 infected by Eicar-Test.UNOFFICIAL", "refused", "refuses: 550 5.7.1 infected by "),
    ),
    "web-service": (OWN.encode(), TEXTS, ("250", "relayed", "the service found it")),
    "command": (
        OWN.encode(),
        TEXTS | {name: FILES[name] for name in ("attached", "nested, attached")},
        ("451", "deferred", "the program found it"),
    ),
}
"""By rule: what its engine finds, in which forms, and the reply, the disposition and the reason."""
