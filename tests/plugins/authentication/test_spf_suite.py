"""The 203 cases of the openspf.org suite for RFC 7208 (release 2014.04), found by GATEPOST_SUITES."""

import ipaddress
import os
from pathlib import Path

import pytest
import yaml
from gatepost import Answer, DnsStatus
from gatepost_authentication.spf import check_host

NO_SUITES = "GATEPOST_SUITES is not set"


def cases():
    folder = os.environ.get("GATEPOST_SUITES")
    if not folder:
        return [pytest.param(None, None, marks=pytest.mark.skip(reason=NO_SUITES))]
    return [
        pytest.param(test, document["zonedata"], id=name)
        for document in yaml.safe_load_all(Path(folder, "rfc7208-tests.yml").read_text())
        for name, test in document["tests"].items()
    ]


class Zone:
    """The suite's zone data: records of a name in their order, behind TIMEOUT none is answered."""

    def __init__(self, records):
        self.records = {name.lower(): entries for name, entries in records.items()}

    async def look_up(self, name, kind, depth=0):
        entries = self.records.get(name.lower().removesuffix("."))
        if entries is None:
            return Answer(status=DnsStatus.NO_NAME)
        if depth > 8:
            return Answer(status=DnsStatus.FAILED)  # a loop of CNAMEs
        pairs = [next(iter(entry.items())) if isinstance(entry, dict) else (entry, None) for entry in entries]
        if kind == "TXT" and not any(of == "TXT" for of, _ in pairs):
            pairs = [("TXT", data) if of == "SPF" else (of, data) for of, data in pairs]
        found = []
        for of, data in pairs:
            if of == "CNAME":
                return await self.look_up(data, kind, depth + 1)
            if "TIMEOUT" in (of, data) and of in ("TIMEOUT", kind) and not found:
                return Answer(status=DnsStatus.TIMED_OUT)
            if of == kind and data != "NONE":
                found.append(record(kind, data))
        return Answer(status=DnsStatus.FOUND if found else DnsStatus.NO_DATA, records=tuple(found))


def record(kind, data):
    if kind == "TXT":
        return "".join(data if isinstance(data, list) else [data]).encode()
    return (data[0], data[1].removesuffix(".")) if kind == "MX" else data


@pytest.mark.parametrize(("case", "zone"), cases())
async def test_rfc7208(case, zone):
    helo = case["helo"]
    sender = case.get("mailfrom") or f"postmaster@{helo}"
    domain = sender.rpartition("@")[2]
    found = await check_host(Zone(zone), ipaddress.ip_address(case["host"]), domain, sender, helo)
    expected = case["result"]
    assert found.result in (expected if isinstance(expected, list) else [expected])
    if found.result == "fail" and "explanation" in case:
        assert (found.explanation or "DEFAULT") == case["explanation"]
