"""The results of this filter and of its peers for letters, against one name server on loopback."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnslib import QTYPE, RCODE, RR, TXT, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer
from gatepost import Resolver
from gatepost.testing import make_transaction
from gatepost_authentication.evidence import Evidence, collect
from signed_letters import SERVFAIL, Letter, zone

__all__ = ["HELO", "PEERS", "asked", "name_server", "ours"]

HELO = "news.reject.example"
FOLDER = Path(__file__).parent
PEERS = {
    "mailauth": ["node", "mailauth.mjs"],
    "dkimpy": [sys.executable, "beside_dkimpy.py"],
    "opendkim": [sys.executable, "opendkim.py"],
    "opendmarc": [sys.executable, "opendmarc.py"],
}


class Zone(BaseResolver):  # type: ignore[misc] - dnslib has no types
    """The records of the letters' domains."""

    def __init__(self) -> None:
        self.records = zone()

    def resolve(self, request: Any, handler: Any) -> Any:
        """Answer one question."""
        name, kind = str(request.q.qname).lower().removesuffix("."), QTYPE[request.q.qtype]
        reply = request.reply()
        found = self.records.get((name, kind))
        if self.records.get((name, "TXT")) == SERVFAIL:
            reply.header.rcode = RCODE.SERVFAIL
        elif found is None:
            if not any(one == name or one.endswith(f".{name}") for one, _ in self.records):
                reply.header.rcode = RCODE.NXDOMAIN
        else:
            for text in found:
                parts = [text[at : at + 250].encode() for at in range(0, len(text), 250)]
                data = A(text) if kind == "A" else TXT(parts)
                reply.add_answer(RR(name, getattr(QTYPE, kind), rdata=data, ttl=60))
        return reply


@contextmanager
def name_server() -> Iterator[str]:
    """A name server on loopback, as ``address:port``."""
    server = DNSServer(Zone(), port=0, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    yield f"127.0.0.1:{server.server.server_address[1]}"
    server.stop()
    server.server.server_close()


async def ours(letters: Sequence[Letter], server: str) -> list[Evidence]:
    """The results of this filter."""
    resolver = Resolver(servers=[server])
    found = []
    for letter in letters:
        transaction = make_transaction(
            letter.content, mail_from=letter.mail_from, client=letter.client, helo=HELO
        )
        found.append(await collect(transaction, resolver, server="mx.example.com", seconds=8))
    await resolver.close()
    return found


def asked(
    peer: str, letters: Sequence[Letter], evidence: Sequence[Evidence], server: str
) -> list[dict[str, Any]]:
    """The results of a peer: OpenDMARC judges by the results of this filter for SPF and DKIM."""
    keys = {
        name: record[0]
        for (name, _), record in zone().items()
        if "._domainkey." in name and record != SERVFAIL
    }
    given = {"server": server, "keys": keys, "letters": [*map(_described, letters, evidence)]}
    ran = subprocess.run(
        PEERS[peer],
        input=json.dumps(given),
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def _described(letter: Letter, evidence: Evidence) -> dict[str, Any]:
    return {
        "content": base64.b64encode(letter.content).decode(),
        "sender": letter.mail_from,
        "client": letter.client,
        "helo": HELO,
        "author": evidence.dmarc.domain or "localhost",
        "spf": (evidence.spf.domain, evidence.spf.result),
        "dkim": [(one.domain or "none", one.result if one.whole_body else "fail") for one in evidence.dkim],
    }
