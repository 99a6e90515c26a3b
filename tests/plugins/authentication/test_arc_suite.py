"""ValiMail's suite for ARC (RFC 8617): 171 chains to validate, 17 to continue; found by GATEPOST_SUITES."""

import os
import re
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from gatepost.testing import make_resolver
from gatepost_authentication.arc import read_sets, validate
from gatepost_authentication.canonical import split_fields
from gatepost_authentication.signed import Body
from gatepost_authentication.signing import Signer, seal
from gatepost_authentication.tags import TagListError

NO_SUITES = "GATEPOST_SUITES is not set"


def cases(file):
    folder = os.environ.get("GATEPOST_SUITES")
    if not folder:
        return [pytest.param(None, None, marks=pytest.mark.skip(reason=NO_SUITES))]
    return [
        pytest.param(test, document, id=name)
        for document in yaml.safe_load_all(Path(folder, "arc", file).read_text())
        for name, test in document["tests"].items()
    ]


def parsed(case, document):
    content = case["message"].encode().replace(b"\n", b"\r\n")
    head, _, body = (
        content.partition(b"\r\n\r\n") if not content.startswith(b"\r\n") else (b"", b"", content[2:])
    )
    records = case.get("txt-records") or document.get("txt-records") or {}
    zone = {(name.lower(), "TXT"): [text.replace("\n", "")] for name, text in records.items()}
    return split_fields(head + b"\r\n"), Body(body), make_resolver(zone)


@pytest.mark.parametrize(("case", "document"), cases("arc-draft-validation-tests.yml"))
async def test_a_chain_is_validated(case, document):
    expected = (
        case["cv"].strip().lower() or "fail"
    )  # the suite leaves it out where a sealer has said so already
    assert (await validate(*parsed(case, document), seconds=5)).result == expected


@pytest.mark.parametrize(("case", "document"), cases("arc-draft-sign-tests.yml"))
async def test_a_chain_is_continued(case, document):
    fields, body, resolver = parsed(case, document)
    chain = await validate(fields, body, resolver, seconds=5)
    try:
        sets = read_sets(fields)
    except TagListError:
        sets = ()
    server = case["srv-id"]
    said = [one.text.strip() for one in fields.get("authentication-results", ())]
    said = [text.partition(";")[2].strip() for text in said if text.partition(";")[0] == server]
    made = seal(
        fields,
        body,
        Signer(
            document["domain"], document["sel"], load_pem_private_key(document["privatekey"].encode(), None)
        ),
        sets=sets,
        results="; ".join([server, *said]),
        valid=chain.result,
        now=case["t"],
        names=case["sig-headers"].split(":"),
    )
    expected = [case[kind] for kind in ("AS", "AMS", "AAR")]
    assert [tags(field.text) for field in made] == [tags(text) for text in expected if text.strip()]


def tags(text):
    return sorted(re.sub(r"\s", "", text).split(";"))
