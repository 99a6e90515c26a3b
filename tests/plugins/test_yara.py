"""The filter yara: its rules see every decoded form, and no message takes the gateway down."""

import base64
import gzip
import io
import sys
import tarfile
from pathlib import Path

import pytest
from gatepost import Passed, Place
from gatepost.cli import app
from gatepost.config import ConfigError, load
from gatepost.pipeline.loader import load_rules
from gatepost.testing import make_message, make_transaction, run_filter, running_gateway
from gatepost_files import NotReadError
from gatepost_yara import Yara
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from compound import compound, compressed_by_copies, vba, zipped
from hostile import hostile

# in two halves, so that no scanner takes this file for the virus that it is not
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
PROGRAM = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(100)
PLACE = Place(rule="yara", folder=Path())
IN_PIECES = b"Rem Open ment_ Docu\r\nSub Document_Open()\r\nEnd Sub\r\n"
"""Compressed, its name consists of references to the first line."""
AUTO_OPEN = b'Sub AutoOpen()\r\nMsgBox "hi"\r\nEnd Sub\r\n'


def tarred(name, content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def with_file(name, content):
    return make_transaction(attachments={name: content})


def in_base64_text(content):
    head = b"From: <a@example.org>\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return make_transaction(content=head + base64.encodebytes(content).replace(b"\n", b"\r\n"))


def forwarded(name, content):
    return make_transaction(attachments={"a.eml": make_message(attachments={name: content})})


FOUND = {
    "plain": (make_transaction(content=b"Subject: x\r\n\r\n" + EICAR + b"\r\n"), "test_file in message"),
    "in base64 text": (in_base64_text(EICAR), "test_file in text/html"),
    "attached": (with_file("a.bin", EICAR), "test_file in attachment a.bin"),
    "forwarded": (forwarded("a.bin", EICAR), "test_file in attachment a.bin"),
    "in a zip": (with_file("a.zip", zipped("b/c.txt", EICAR)), "test_file in attachment a.zip: b/c.txt"),
    "in a zip in a zip": (
        with_file("a.zip", zipped("b.zip", zipped("c", EICAR))),
        "test_file in attachment a.zip: c",
    ),
    "in a tar": (with_file("a.tar", tarred("b", EICAR)), "test_file in attachment a.tar"),
    "in a gz": (with_file("a.gz", gzip.compress(EICAR)), "test_file in attachment a.gz"),
    "in a tar.gz": (
        with_file("a.tgz", gzip.compress(tarred("b", EICAR))),
        "test_file in attachment a.tgz: b",
    ),
    "in disguise": (with_file("invoice.pdf", PROGRAM), "program_in_disguise in attachment invoice.pdf"),
    "in disguise, in a zip": (with_file("a.zip", zipped("Invoice.PDF", PROGRAM)), "program_in_disguise in"),
    "with a dot at the end": (with_file("invoice.pdf. ", PROGRAM), "program_in_disguise in"),
    "a script in a zip": (
        with_file("a.zip", zipped("b.js", b"x")),
        "script_in_archive in attachment a.zip: b.js",
    ),
    "a macro": (
        with_file("a.doc", compound({"WordDocument": b"x", **vba(AUTO_OPEN, "Macros/")})),
        "auto_open_macro in attachment a.doc",
    ),
    "a macro in a new file": (
        with_file("a.docm", zipped("word/vbaProject.bin", compound(vba(AUTO_OPEN)))),
        "auto_open_macro in attachment a.docm: word/vbaProject.bin",
    ),
}


def test_the_source_of_macros_is_scanned_decompressed_if_there_is_a_library_for_it(monkeypatch):
    content = compound(vba(IN_PIECES, pack=compressed_by_copies))
    for transaction in (
        with_file("a.doc", content),
        with_file("a.docm", zipped("word/vbaProject.bin", content)),
    ):
        verdict = run_filter(Yara, transaction)
        assert verdict.reason.startswith("YARA rule auto_open_macro in attachment a.doc")
    monkeypatch.setitem(sys.modules, "oletools.olevba", None)
    assert run_filter(Yara, transaction) is None


def test_own_rules_see_the_source_of_macros(tmp_path):
    rule = (
        'rule r { strings: $name = "Sub Document_Open()" condition: vba and $name and extension == ".doc" }'
    )
    (tmp_path / "r.yar").write_text(rule)
    content = compound(vba(IN_PIECES, pack=compressed_by_copies))
    settings = {"rules": [str(tmp_path / "r.yar")], "shipped": False}
    assert (
        run_filter(Yara, with_file("a.doc", content), **settings).reason == "YARA rule r in attachment a.doc"
    )
    assert run_filter(Yara, with_file("a.doc", IN_PIECES), **settings) is None
    assert run_filter(Yara, with_file("a.doc", content[:600]), **settings) is None, "a damaged one"


@pytest.mark.parametrize("case", FOUND)
def test_a_shipped_rule_finds_it(case):
    transaction, reason = FOUND[case]
    verdict = run_filter(Yara, transaction)
    assert verdict.reason.startswith(f"YARA rule {reason}")
    assert verdict.matches[0].text.startswith(reason.split(" ", maxsplit=1)[0])


@pytest.mark.parametrize(
    "transaction",
    [
        make_transaction(text="Hello"),
        with_file("a.exe", PROGRAM),  # no disguise: the filter attachments is for names
        with_file("a.js", b"x"),
        with_file("a.zip", zipped("a.txt", b"x")),
        with_file("a.doc", compound({"WordDocument": b"x"})),
        with_file("a.doc", compound({"WordDocument": b"x", **vba(b"Sub Other()\r\nEnd Sub\r\n", "Macros/")})),
        make_transaction(content=b""),
    ],
)
def test_honest_mail_is_no_hit(transaction):
    assert run_filter(Yara, transaction) is None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "yara" / "more").mkdir(parents=True)
    (tmp_path / "yara" / "a.yar").write_text('rule prize { strings: $a = "prize" nocase condition: $a }')
    (tmp_path / "yara" / "more" / "b.yara").write_text(
        "rule prize { condition: false }\n"
        "private rule hidden { condition: true }\n"
        'rule named { meta: description = "a\x1bname" '
        'condition: filename == "b\u00fcro.bin" and not in_archive }'
    )
    (tmp_path / "yara" / "readme.txt").write_text("no rule")
    return tmp_path


def test_own_rules_are_read_from_folders_each_file_a_namespace(folder):
    settings = {"rules": [folder / "yara"], "shipped": False}
    verdict = run_filter(Yara, make_transaction(subject="A PRIZE"), **settings)
    assert (verdict.reason, len(verdict.matches)) == ("YARA rule prize in message", 1)
    assert run_filter(Yara, make_transaction(subject="A PRIZE"), **settings, ignore=["prize"]) is None
    assert run_filter(Yara, with_file("büro.bin", b"x"), **settings).matches[0].text == "named: a?name"
    assert run_filter(Yara, make_transaction(content=EICAR), **settings) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"rule a { condition: foo }", "bad.yar:1:21: unknown identifier `foo`"),
        (b"rule a {\n  strings: $a = condition: }", "bad.yar:2:17: syntax error"),
        (b'include "other.yar"', "bad.yar:1:1: include statements not allowed"),
        (b'import "nope" rule a { condition: true }', "bad.yar:1:1: unknown module `nope`"),
        (b"rule a { condition: true } rule a { condition: true }", "bad.yar:1:33: duplicate rule `a`"),
        (b"rule \xff { condition: true }", "bad.yar: 'utf-8' codec"),
        (b"rule a { condition: x }\n" * 9, "and "),
    ],
)
def test_check_names_file_line_and_column_of_a_mistake(tmp_path, text, error):
    (tmp_path / "bad.yar").write_bytes(text)
    with pytest.raises(ValueError, match=r"bad\.yar") as raised:
        Yara(place=PLACE, rules=[tmp_path / "bad.yar"])
    assert error in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"shipped": False}, "no rules: expected rules, or shipped: true"),
        ({"rules": [Path("/nowhere/x")]}, "there is no /nowhere/x, expected a file or folder"),
        ({"rules": [Path("/proc/self/fdinfo")]}, "no *.yar or *.yara in /proc/self/fdinfo"),
    ],
)
def test_settings_without_rules_are_refused(settings, error):
    with pytest.raises(ValueError, match=r"rules") as raised:
        Yara(place=PLACE, **settings)
    assert error in str(raised.value)


def test_a_name_that_is_ignored_and_no_rule_has_is_reported_by_check(tmp_path):
    settings = "{ignore: [test_file, test_fiel]}"
    (tmp_path / "rules.yaml").write_text(f"rules: [{{name: y, filter: yara, with: {settings}}}]\n")
    done = CliRunner().invoke(app, ["check", "-c", str(tmp_path / "rules.yaml")])
    assert done.exit_code == 0
    assert "warning: ignore: no rule is named test_fiel" in done.stderr


ENCRYPTED = bytearray(zipped("secret.txt", b"x"))
ENCRYPTED[6] |= 1
ENCRYPTED[ENCRYPTED.index(b"PK\1\2") + 8] |= 1
DAMAGED = gzip.compress(bytes(100_000))[:-20]


def test_what_cannot_be_unpacked_is_a_hit_and_what_is_encrypted_is_told():
    verdict = run_filter(Yara, with_file("a.gz", DAMAGED))
    assert verdict.reason.startswith("not scanned: attachment a.gz: damaged archive")
    assert run_filter(Yara, with_file("a.gz", DAMAGED), unscanned="pass") is None
    passed = Yara(place=PLACE).filter_message(with_file("a.zip", bytes(ENCRYPTED)))
    assert isinstance(passed, Passed)
    assert passed.reason.startswith("not scanned: attachment a.zip: encrypted member: secret.txt")


def test_a_bomb_is_a_hit_and_takes_bounded_time(within_yardsticks):
    bomb = zipped("a", zipped("b", bytes(80 << 20)))
    with within_yardsticks(400):
        assert run_filter(Yara, with_file("a.zip", bomb)).reason.startswith("not scanned: ")


HOSTILE = hostile(base64.encodebytes(EICAR), fields=b"Content-Transfer-Encoding: base64\r\n")


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_messages_are_looked_at_all_the_same(case):
    transaction = make_transaction(content=HOSTILE[case])
    if case == "92 40,000 parts":
        with pytest.raises(NotReadError, match="more than 10000 parts"):
            run_filter(Yara, transaction)
    else:
        assert run_filter(Yara, transaction).reason.startswith("YARA rule test_file in ")


def test_a_scan_that_fails_keeps_no_scanner_for_another_thread_to_free(monkeypatch):
    def fails(_rule):
        raise OSError("it fails")

    monkeypatch.setattr("gatepost_yara._described", fails)
    with pytest.raises(OSError, match="it fails"):
        run_filter(Yara, FOUND["in a zip"][0])


def test_in_a_gateway_it_runs_in_a_process_of_its_own_and_mistakes_are_problems_of_the_file(tmp_path):
    (tmp_path / "mine.yar").write_text('rule prize { strings: $a = "prize" condition: $a }')
    rules = {
        "rules": [
            {
                "name": "patterns",
                "filter": "yara",
                "with": {"rules": [str(tmp_path / "mine.yar")]},
                "timeout": "30s",
            }
        ]
    }
    with running_gateway(rules) as gateway:
        assert gateway.send(FOUND["in a zip"][0]).code == 550
        assert gateway.send(make_transaction(subject="a prize")).code == 550
        assert gateway.send(make_transaction(subject="minutes")).code == 250
    (tmp_path / "mine.yar").write_text("rule prize { condition: foo }")
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - name: patterns\n    filter: yara\n    with: {rules: [mine.yar]}\n"
    )
    with pytest.raises(
        ConfigError, match=r"rules.yaml:4:11: filter 'yara': .*mine.yar:1:25: unknown identifier"
    ):
        load_rules(load(tmp_path / "rules.yaml"))
