"""The filter office: DDE, macro sheets, templates and encryption, in all formats and spellings.

The documents do nothing: what they would start is called ``harmless``.
"""

import struct
import sys
from pathlib import Path

import pytest
from gatepost.testing import make_transaction, run_filter
from gatepost_office import Office
from gatepost_office_fields import dde_fields, text_of_rtf
from gatepost_office_sheets import is_dde

sys.path.insert(0, str(Path(__file__).parent))
from compound import compound, zipped

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
INSTRUCTION = "DDEAUTO harmless topic"
DDE = "a link that starts a program (DDE) in attachment "
MACROS = "macros in attachment "


def found(content, name="a.doc", **settings):
    """The reason of the verdict; None if there is none."""
    verdict = run_filter(Office, make_transaction(attachments={name: content}), **settings)
    return verdict and verdict.reason


def word(*runs, encoding="utf-8"):
    """The main part of a Word document; a run is a mark of a field or the text of an instruction."""
    marks = {"<": "begin", "|": "separate", ">": "end"}
    pieces = [
        f'<w:r><w:fldChar w:fldCharType="{marks[run]}"/></w:r>'
        if run in marks
        else f"<w:r><w:t>{run[1:]}</w:t></w:r>"
        if run.startswith("=")
        else f"<w:r><w:instrText>{run}</w:instrText></w:r>"
        for run in runs
    ]
    head = "" if encoding == "utf-8" else f'<?xml version="1.0" encoding="{encoding}"?>'
    return f"{head}<w:document {W}><w:body><w:p>{''.join(pieces)}</w:p></w:body></w:document>".encode(
        encoding
    )


def record(kind, data=b""):
    return struct.pack("<HH", kind, len(data)) + data


def workbook(*records):
    """The records of Excel's binary files between the first one and the last one."""
    return record(0x809, struct.pack("<HHHHII", 0x600, 5, 0, 0, 0, 0)) + b"".join(records) + record(0xA)


def sheet(kind):
    return record(0x85, struct.pack("<IBB", 0, 0, kind) + b"\x06\0Sheet1")


def link(path, sheets=0, *, wide=True):
    text = path.encode("utf-16-le") if wide else path.encode()
    return record(0x1AE, struct.pack("<HHB", sheets, len(path), wide) + text)


def old_word(text=b"", template="", flags=0):
    """A binary Word document: its text, and the names of the files that belong to it."""
    names = b"".join(
        struct.pack("<H", len(name)) + name.encode("utf-16-le")
        for name in ("http://x/", template, "http://x/")
    )
    table = b"xxxx" + struct.pack("<HHH", 0xFFFF, 3, 0) + names
    head = bytearray(500)
    head[:2], head[10:12] = b"\xec\xa5", struct.pack("<H", 0x200 | flags)
    struct.pack_into("<II", head, 410, 4, len(table) - 4)
    return compound({"WordDocument": bytes(head) + text, "1Table": table})


def binary_link(service, kind=1):
    """The part of a binary workbook (xlsb) for an external link."""
    texts = b"".join(struct.pack("<I", len(one)) + one.encode("utf-16-le") for one in (service, "topic"))
    data = struct.pack("<H", kind) + texts
    size = bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) if len(data) > 127 else bytes([len(data)])
    return b"\xe8\x02" + size + data


FIELD = f"\x13 {INSTRUCTION} \x14 result \x15"
DDE_IN = {
    "a field of Word": word("<", INSTRUCTION, "|", "=x", ">"),
    "in pieces": word("<", "D", "DE", "auto harm", "less x", ">"),
    "without an end": word("<", INSTRUCTION),
    "in UTF-16": word("<", INSTRUCTION, ">", encoding="utf-16"),
    "in another encoding": word("<", INSTRUCTION, ">", encoding="iso-8859-15"),
    "letters by number": word("<", "<", "QUOTE 68 68 0x45 65 85 84 79", "|", "=x", ">", " harmless x", ">"),
    "letters in quotes": word("<", "<", 'QUOTE "DDE"', ">", "AUTO harmless x", ">"),
    "the result of another field": word("<", "<", "REF x", "|", "=DDEAUTO", ">", " harmless x", ">"),
    "a field within another one's result": word("<", "TOC", "|", "<", INSTRUCTION, ">", ">"),
    "a simple field": f'<w:p {W}><w:fldSimple w:instr=" DDE harmless x "/></w:p>'.encode(),
    "a simple field with a letter by number": f'<w:p {W}><w:fldSimple w:instr="&#68;DE x y"/></w:p>'.encode(),
    "a link of Excel": f'<externalLink {S}><ddeLink ddeService="harmless"/></externalLink>'.encode(),
    "a formula of Excel": f"<worksheet {S}><c><f>harmless|'x y'!A1</f></c></worksheet>".encode(),
    "a formula with | by number": f"<worksheet {S}><c><f>harmless&#x7c;x!A1</f></c></worksheet>".encode(),
    "a link of a binary workbook": binary_link("harmless"),
    "a long one": binary_link("harmless" * 20),
}


@pytest.mark.parametrize("case", DDE_IN)
def test_dde_is_found_in_the_parts_of_newer_files(case):
    assert found(zipped("word/part.xml", DDE_IN[case])).startswith(f"{DDE}a.doc: word/part.xml")


WORKBOOK_2003 = (
    '<Workbook xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet">'
    '<Cell ss:Formula="=harmless|x!A1"/></Workbook>'
)
SYLK = b"ID;PWXL;N;E\r\nC;X1;Y1;K0;Eharmless|'x'!A1\r\nE\r\n"
DDE_FILES = {
    "Word, a byte a character": old_word(FIELD.encode()),
    "Word, two bytes": old_word(FIELD.encode("utf-16-le")),
    "Word, two bytes at an odd place": old_word(b"x" + FIELD.encode("utf-16-le")),
    "Word of 2003": word("<", INSTRUCTION, ">"),
    "Excel of 2003": WORKBOOK_2003.encode(),
    "Excel": compound({"Workbook": workbook(sheet(0), link("harmless\x03topic"))}),
    "Excel, a byte a character": compound({"Workbook": workbook(link("harmless\x03topic", wide=False))}),
    "Excel of 1995": compound({"Book": workbook(record(0x17, b"\x0eharmless\x03topic"))}),
    "SYLK": SYLK,
}


@pytest.mark.parametrize("case", DDE_FILES)
def test_dde_is_found_in_files_of_one_piece(case):
    reason = found(DDE_FILES[case], "a.bin")
    assert reason.startswith(f"{DDE}a.bin")
    assert found(DDE_FILES[case], "a.bin", find=["macros", "external", "embedded"]) is None
    assert found(zipped("b.xml", DDE_FILES[case]), find=["dde"]).startswith(f"{DDE}a.doc: b.xml")


@pytest.mark.parametrize(
    "field",
    [
        rb"{\field{\*\fldinst DDEAUTO harmless x}{\fldrslt y}}",
        rb"{\field{\*\fldinst {\b D}{\i DE}AUTO harmless x}}",
        rb"{\field{\*\fldinst \'44\'44\'45 harmless x}}",
        rb"{\field{\*\fldinst \u68?\u68?E harmless x}}",
        rb"{\field{\*\fldinst {\uc0 \u68 \u68 }E harmless x}}",
        rb"{\field{\*\fldinst \uc2 \u68??\u68\'3f?E harmless x}}",
        rb"{\field\flddirty{\*\fldinst{\*\junk no}DDE harmless x}}",
        b"{\\field{\\*\\fldinst D\r\nD\nE harmless x}}",
        rb"{\field{\*\fldinst {\field{\*\fldinst QUOTE 68 68 69}{\fldrslt x}} harmless x}}",
        rb"{\field{\*\fldinst{\bin3 }}}DDEAUTO harmless x}}",
        rb"{\field{\*\fldinst DDE harmless x",
    ],
)
def test_dde_is_found_in_rtf_as_word_reads_it(field):
    assert found(rb"{\rtf1 x" + field + b"}", find=["dde"]) == f"{DDE}a.doc"


@pytest.mark.parametrize(
    "content",
    [
        zipped("word/document.xml", word("<", "PAGE", "|", "=DDEAUTO x", ">", "=DDEAUTO harmless")),
        zipped("word/document.xml", word("<", "HYPERLINK DDE", ">", "<", "DDEALER x", ">")),
        zipped("word/document.xml", word(">", "|", INSTRUCTION)),
        zipped(
            "xl/worksheets/sheet1.xml", f"<worksheet {S}><f>\"a|b\"&amp;'c|d'!A1</f></worksheet>".encode()
        ),
        zipped(
            "xl/worksheets/sheet1.xml", f"<worksheet {S}><f>T[a|b]+1</f><t>a|b!c</t></worksheet>".encode()
        ),
        zipped("xl/sharedStrings.xml", f"<sst {S}><t>&#68;DEAUTO x|y</t></sst>".encode()),
        zipped("xl/externalLinks/externalLink1.bin", binary_link("book.xlsx", kind=0)),
        rb"{\rtf1 DDEAUTO harmless {\field{\*\fldinst PAGE}{\fldrslt DDEAUTO x}}{\*\fldinst2 DDE x}}",
        compound({"Workbook": workbook(sheet(0), sheet(2), link("\x01\x01C\x03dir\x03book.xls", sheets=3))}),
        compound(
            {"Workbook": workbook(link("dir\x03book.xls", sheets=1), record(0x17, b"\x01\0\0\0\0\0\3\0"))}
        ),
        compound({"Workbook": workbook(record(0x1AE, b"\1\0\1\4"))}),
        compound({"Book": workbook(record(0x17, b"\x0e\x01armless\x03topic"))}),
        old_word(b"\x13 PAGE \x14 1 \x15 DDEAUTO x", "C:\\Templates\\Normal.dotm"),
        old_word(template="Normal.dot"),
        b'ID;P\r\nC;X1;Y1;K"a|b"\r\nC;E1+1\r\nE\r\n',
        b"=harmless|'x'!A1,2\r\n",
        b"<html><p>instrText ddeLink &#124; | </html>",
    ],
)
def test_what_only_looks_like_it_is_no_hit(content):
    assert found(content) is None


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (compound({"Workbook": workbook(sheet(0), sheet(1))}), ""),
        (compound({"Book": workbook(sheet(1))}), ""),
        (
            compound(
                {"Workbook": workbook(sheet(0)) + record(0x809, struct.pack("<HHQQ", 0x600, 0x40, 0, 0)[:16])}
            ),
            "",
        ),
        (record(0x409, struct.pack("<HHH", 0, 0x40, 0)) + record(0xA), ""),
        (b"ID;PWXL;N;E\r\nO;E\r\nE\r\n", ""),
        (
            zipped(
                "xl/_rels/workbook.bin.rels",
                b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
                b'<Relationship Id="r" Target="macrosheets/sheet1.bin" '
                b'Type="http://schemas.microsoft.com/office/2006/relationships/xlMacrosheet"/></Relationships>',
            ),
            ": xl/_rels/workbook.bin.rels",
        ),
    ],
    ids=["Excel", "Excel of 1995", "without its entry", "a file of Excel 4", "SYLK", "newer Excel"],
)
def test_excel_4_macro_sheets_are_macros_that_may_run_by_themselves(content, name):
    assert found(content, "a.xls").startswith(f"{MACROS}a.xls{name}")
    assert found(content, "a.xls", find=["auto_macros"]).startswith(
        "a macro that runs by itself in attachment"
    )
    assert found(content, "a.xls", find=["dde", "embedded", "external", "encrypted"]) is None


@pytest.mark.parametrize("template", ["http://evil.example/x.dot", r"\\evil.example\x.dot", "FILE://evil/x"])
def test_the_template_of_a_binary_word_document_is_found(template):
    assert found(old_word(template=template)) == "an external template or object in attachment a.doc"


def test_an_encrypted_workbook_is_found_and_nothing_else_in_it():
    content = compound({"Workbook": workbook(record(0x2F, bytes(54)), sheet(1), link("x\x03y"))})
    assert found(content, "a.xls") == "encryption in attachment a.xls"
    assert found(content, "a.xls", find=["macros", "dde"]) is None


def test_all_that_is_found_in_a_file_is_shown_once_each():
    content = compound({"Workbook": workbook(*[sheet(1)] * 3, *[link("harmless\x03x")] * 2)})
    verdict = run_filter(Office, make_transaction(attachments={"a.xls": content}))
    assert verdict.reason == "macros in attachment a.xls and 1 more"
    assert [match.text for match in verdict.matches] == ["Excel 4.0 macro sheet", "harmless|x"]


@pytest.mark.parametrize(
    "text",
    ["\x13" * 20_000 + "x" * 20_000, ("\x13" + "x" * 50) * 10_000 + "\x15" * 10_000, "\x15\x14" * 20_000],
)
def test_fields_in_fields_take_linear_time(within_yardsticks, text):
    with within_yardsticks(40):
        assert [*dde_fields(text)] == []


@pytest.mark.parametrize(
    "text", [b"{" * 30_000, b"\\" * 30_000, rb"\bin999999999 x" * 30_000, rb"\u" * 30_000]
)
def test_rtf_takes_linear_time(within_yardsticks, text):
    with within_yardsticks(40):
        text_of_rtf(text)


@pytest.mark.parametrize("formula", ["'" * 300_000 + "|", '"' * 299_999 + "|", "[" * 300_000 + "|"])
def test_formulas_take_linear_time(within_yardsticks, formula):
    with within_yardsticks(40):
        is_dde(formula)


@pytest.mark.parametrize("size", range(0, 600, 37))
def test_what_is_cut_off_raises_nothing(size):
    for content in (old_word(FIELD.encode(), "http://x/"), DDE_FILES["Excel"]):
        damaged = compound(
            {"WordDocument": content[:size], "1Table": content[:size], "Workbook": content[:size]}
        )
        assert "not inspected" not in (found(damaged) or "")
