"""The filter `authentication` beside dkimpy and mailauth: processor time to verify DKIM signatures.

python benchmarks/authentication.py [--turns 5] [--write]

Needs the packages of the tests: pip install '.[test]' and npm install --prefix tests. --write puts the table
into docs/benchmarks.md.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gatepost.dns import Answer, DnsStatus, Resolver
from gatepost.model.mail import Message
from gatepost_authentication.dkim import verify_all
from gatepost_authentication.signed import parts_of
from gatepost_authentication.signing import Signer, dkim_signature
from report import machine, put_into_page, table

HERE = Path(__file__).parent
KEY = rsa.generate_private_key(65537, 2048)
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
RECORD = b"v=DKIM1; p=" + PUBLIC
HEAD = b"From: ann@example.org\r\nTo: bob@example.com\r\nSubject: minutes\r\n\r\n"
LINE = b"The quick brown fox jumps over the lazy dog and comes back again.\r\n"
MEGABYTE = 1 << 20
LIMIT_SECONDS = 60
"""A verification that takes longer is ended."""


def signed(body, count=1):
    """A message with so many copies of one RSA-2048 signature."""
    content = HEAD + body
    fields, read = parts_of(Message(content=content))
    value = dkim_signature(fields, read, Signer("example.org", "sel", KEY), now=1_700_000_000)
    return (b"DKIM-Signature:" + value + b"\r\n") * count + content


MESSAGES = {
    "1 MB of text, one RSA-2048 signature": (signed(LINE * (MEGABYTE // len(LINE))), 15),
    "1 MB of blanks and a letter, one signature": (signed(b" " * MEGABYTE + b"x\r\n"), 50),
    "10 KB, 50 signatures": (signed(LINE * 150, 50), 15),
}
"""With the most milliseconds that it is to cost here."""


async def verify_here(content):
    """Milliseconds of processor time, and the longest turn of the event loop among them."""

    async def ask(name, kind):
        return Answer(status=DnsStatus.FOUND, records=(RECORD,)), 60

    async def watch():
        nonlocal longest
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    async def verify():
        fields, body = parts_of(Message(content=content))
        found = await verify_all(fields, body, resolver, now=time.time(), seconds=60)
        assert {one.result for one in found} == {"pass"}

    resolver, longest = Resolver(ask=ask), 0.0
    begin = time.process_time()
    await verify()
    spent = time.process_time() - begin
    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await verify()
    watching.cancel()
    return spent * 1000, longest * 1000


def verify_with_dkimpy(content):
    count = content.count(b"DKIM-Signature:")
    begin = time.process_time()
    for number in range(count):
        assert dkim.DKIM(content).verify(idx=number, dnsfunc=lambda name, timeout=5: RECORD)
    return (time.process_time() - begin) * 1000


def within_limit(function, content):
    """The result of a function in a process of its own; None if it takes too long."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            return pool.apply_async(function, (content,)).get(LIMIT_SECONDS)
        except multiprocessing.TimeoutError:
            return None


def verify_with_mailauth(contents, turns):
    """Milliseconds for each message, the median of the turns; none without Node or mailauth."""
    if not shutil.which("node"):
        return None
    given = {
        "record": RECORD.decode(),
        "turns": turns,
        "messages": [base64.b64encode(content).decode() for content in contents],
    }
    command = ["node", HERE / "authentication_mailauth.mjs"]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    if ran.returncode:
        print(f"mailauth is left out: {ran.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(ran.stdout)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    mailauth = verify_with_mailauth([content for content, _ in MESSAGES.values()], options.turns)
    rows = []
    for number, (name, (content, most)) in enumerate(MESSAGES.items()):
        here = [asyncio.run(verify_here(content)) for _ in range(options.turns)]
        spent, longest = (statistics.median(one) for one in zip(*here, strict=True))
        beside = within_limit(verify_with_dkimpy, content)
        rows.append(
            [
                name,
                round(spent, 1),
                f"{most}, " + ("met" if spent <= most else "**missed**"),
                round(longest, 1),
                f"over {LIMIT_SECONDS} s" if beside is None else round(beside, 1),
                round(mailauth[number], 1) if mailauth else "",
            ]
        )
    heads = [
        "CPU, ms",
        "here",
        "at most",
        "of it in one turn of the event loop",
        "dkimpy 1.1.8",
        "mailauth 7.1.0",
    ]
    text = f"Measured on {machine()}, {time.strftime('%d %B %Y', time.gmtime())}.\n\n"
    text += table(heads, rows)
    print(text)
    if options.write:
        put_into_page("authentication", text)


if __name__ == "__main__":
    main()
