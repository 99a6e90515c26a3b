"""dkimpy: DKIM, each signature of its own, and ARC."""

import base64
import json
import sys

import dkim
from dnslib import DNSRecord

given = json.load(sys.stdin)
host, _, port = given["server"].partition(":")


def look_up(name, timeout=5):
    """The first TXT record, as dkimpy's own function returns it; None for whatever goes wrong."""
    question = DNSRecord.question(name.decode().removesuffix("."), "TXT")
    reply = DNSRecord.parse(question.send(host, int(port), timeout=timeout))
    for record in reply.rr:
        return b"".join(record.rdata.data)
    return None


def judge(letter):
    content = base64.b64decode(letter["content"])
    return {"dkim": [verified(content, number) for number in range(count(content))], "arc": chained(content)}


def count(content):
    head = content.partition(b"\r\n\r\n")[0]
    return min(10, sum(line.lower().startswith(b"dkim-signature:") for line in head.split(b"\r\n")))


def verified(content, number):
    try:
        return "pass" if dkim.DKIM(content).verify(idx=number, dnsfunc=look_up) else "fail"
    except Exception as error:  # noqa: BLE001 - whatever comes out is a result here
        return type(error).__name__


def chained(content):
    try:
        return dkim.arc_verify(content, dnsfunc=look_up)[0].decode()
    except Exception as error:  # noqa: BLE001
        return type(error).__name__


json.dump([judge(letter) for letter in given["letters"]], sys.stdout)
