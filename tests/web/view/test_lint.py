"""What is wrong with a message is told, and nothing else."""

import pytest
from gatepost.traffic.events import event_of
from gatepost.traffic.oddity import Oddity
from gatepost.web.view import lint_commands, view_message
from gatepost.web.view.findings import RULES

DATE = b"Date: Tue, 01 Dec 2026 09:30:00 +0000\r\n"
TOP = (
    DATE + b"From: a@example.com\r\nTo: b@example.com\r\nSubject: s\r\nMessage-ID: <1@example.com>\r\n"
    b"MIME-Version: 1.0\r\n"
)
CLEAN = TOP + b"Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n"
MIXED = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b"


def without(name: bytes) -> bytes:
    return b"".join(line for line in CLEAN.splitlines(keepends=True) if not line.startswith(name + b":"))


def typed(fields: bytes, body: bytes) -> bytes:
    return TOP + fields + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "content",
    [
        CLEAN,
        MIXED + b"--\r\n",
        typed(b"Content-Transfer-Encoding: base64", b"YWJj\r\nYQ==\r\n"),
        typed(b"Content-Transfer-Encoding: quoted-printable", b"a=3D=\r\nb= \r\nc"),
        typed(b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit", "ä".encode()),
        CLEAN.replace(b"Tue, 01 Dec 2026 09:30:00 +0000", b"1 Dec 2026 09:30 GMT (comment)"),
        CLEAN.replace(b"Tue, 01", b"tue,1"),
        CLEAN.replace(b"hello", b"x" * 78),
    ],
)
def test_nothing_is_said_about_a_clean_message(content):
    assert view_message(content).lint == ()


@pytest.mark.parametrize(
    ("content", "code", "text", "where"),
    [
        (
            CLEAN.replace(b"hello\r\n", b"a\nb\nc\r\n"),
            "bare-lf",
            "2 line feeds without a carriage return",
            "line 9",
        ),
        (CLEAN.replace(b"hello", b"a\rb"), "bare-cr", "1 carriage return without a line feed", "line 9"),
        (CLEAN.replace(b"hello", b"a\0b"), "nul", "1 NUL octet", "line 9"),
        (CLEAN.replace(b"hello", b"x" * 999), "line-over-998", "1 line of more than 998 octets", "line 9"),
        (CLEAN.replace(b"hello", b"x" * 79), "line-over-78", "1 line of more than 78 octets", "line 9"),
        (b"\r\n" + CLEAN, "leading-lines", "before the first header field stand other lines", "line 1"),
        (b"junk\r\n" + CLEAN, "no-field", '"junk" is no header field', "line 1"),
        (
            CLEAN.replace(b"To:", b"To :"),
            "space-before-colon",
            '"To :" has white space before its colon',
            "line 3",
        ),
        (TOP, "no-header-end", "the header section does not end with an empty line", ""),
        (CLEAN.replace(b": s\r", b": \xe4\r"), "header-8bit", "octets that are neither ASCII nor UTF-8", ""),
        (CLEAN.replace(b": s\r", ": ä\r".encode()), "header-utf8", "the header section holds UTF-8", ""),
        (without(b"Date"), "missing-date", "there is no Date field", ""),
        (without(b"From"), "missing-from", "there is no From field", ""),
        (without(b"To"), "missing-to", "there is neither a To nor a Cc field", ""),
        (without(b"Subject"), "missing-subject", "there is no Subject field", ""),
        (without(b"Message-ID"), "missing-message-id", "there is no Message-ID field", ""),
        (without(b"MIME-Version"), "missing-mime-version", "no MIME-Version", ""),
        (
            CLEAN.replace(b"<1@", b"<"),
            "invalid-message-id",
            '"<example.com>" is no message identifier',
            "header Message-ID",
        ),
        (
            CLEAN.replace(b": s\r", b": a\x07b\r"),
            "control-in-header",
            "the field Subject holds",
            "header Subject",
        ),
        (DATE + CLEAN, "duplicate-field", "the field Date is there 2 times", "header Date"),
        (
            CLEAN.replace(b"To:", b"Subject: t\r\nTo:"),
            "duplicate-field",
            "the field Subject is there 2 times",
            "header Subject",
        ),
        *[
            (CLEAN.replace(b"Tue, 01 Dec 2026 09:30:00 +0000", date), "invalid-date", fault, "header Date")
            for date, fault in (
                (b"", '"" is no date'),
                (b"yesterday", '"yesterday" is no date'),
                (b"2026-12-01T09:30:00Z", "is no date"),
                (b"1 Dec 2026 09:30:00", "is no date"),
                (b"(" * 500, "is no date"),
                (b"Mon, 01 Dec 2026 09:30:00 +0000", "is another day of the week"),
                (b"31 Feb 2026 09:30:00 +0000", "is no day or time that there is"),
                (b"1 Dec 2026 25:00:00 +0000", "is no day or time that there is"),
            )
        ],
        (typed(b"Content-Type: text/html", b"<p>x"), "missing-text", "the text is there only as HTML", ""),
        (MIXED, "broken-structure", "multipart/mixed: the final boundary is missing", "part 1"),
        (
            typed(b"Content-Type: multipart/mixed", b"x"),
            "broken-structure",
            "its boundary is nowhere",
            "part 1",
        ),
        (
            (MIXED + b"--").replace(
                b"; boundary", b"; x=1\r\nContent-Transfer-Encoding: base64\r\nx: ; boundary"
            ),
            "encoded-multipart",
            "a multipart is encoded as base64",
            "part 1",
        ),
        (typed(b"Content-Transfer-Encoding: uuencode", b"x"), "unknown-encoding", '"uuencode"', "part 1"),
        (typed(b"Content-Transfer-Encoding: base64", b"YW!Jj"), "broken-base64", "1 octet outside", "part 1"),
        (
            typed(b"Content-Transfer-Encoding: base64", b"YWJ"),
            "broken-base64",
            "cut off or wrongly padded",
            "part 1",
        ),
        (
            typed(b"Content-Transfer-Encoding: base64", b"YQ==YQ=="),
            "broken-base64",
            "goes on behind",
            "part 1",
        ),
        (
            typed(b"Content-Transfer-Encoding: quoted-printable", b"a=XYb"),
            "broken-quoted-printable",
            '"=XY"',
            "part 1",
        ),
        (
            typed(b"Content-Type: text/plain; charset=nonsense", b"x"),
            "charset",
            "unknown charset 'nonsense'",
            "part 1",
        ),
        (typed(b"Content-Type: text/plain; charset=utf-8", b"\xff"), "charset", "no 'utf-8'", "part 1"),
        (
            typed(b"Content-Type: text/plain; charset=utf-8", "ä".encode()),
            "undeclared-8bit",
            "that is 7bit",
            "part 1",
        ),
    ],
)
def test_what_is_wrong_is_told_once_with_its_place_and_advice(content, code, text, where):
    found = [finding for finding in view_message(content).lint if finding.code == code]
    assert len(found) == 1
    assert text in found[0].text
    assert found[0].where == where
    assert (found[0].severity, found[0].advice) == RULES[code]


def test_errors_come_first_and_hostile_words_are_made_visible():
    findings = view_message(b"\x1b[31m\xe2\x80\xae\r\n" + without(b"Date")).lint
    order = ["error", "warning", "note"]
    assert [f.severity for f in findings] == sorted((f.severity for f in findings), key=order.index)
    assert all("\x1b" not in f.text and "\u202e" not in f.text for f in findings)


def test_a_thousand_faults_are_a_short_list():
    part = b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n!\r\n"
    content = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 1000
    assert len(view_message(content).lint) == 100


def test_every_rule_names_its_section():
    for severity, advice in RULES.values():
        assert severity in ("error", "warning", "note")
        assert "RFC" in advice
        assert advice.endswith(").")


def lines(*said):
    """A conversation: ``C MAIL ...``, ``S 250 ...``, ``* odd ...``."""
    return tuple(event_of(at=0, session_id="s", direction=chr(one[0]), data=one[2:]) for one in said)


def found_in(session, transaction):
    findings = lint_commands(lines(*session), lines(*transaction))
    return [(finding.code, finding.where, finding.text) for finding in findings]


@pytest.mark.parametrize("oddity", Oddity)
def test_whatever_a_server_calls_odd_has_its_words_and_its_advice(oddity):
    [finding] = lint_commands((), lines(b"C RCPT TO:x\r\n", b"S 250 ok\r\n", f"* odd {oddity}".encode()))
    assert (finding.code, finding.where) == (oddity, "RCPT")
    assert finding.text.startswith('"RCPT TO:x" ')
    assert (finding.severity, finding.advice) == RULES[oddity]


def test_what_was_odd_in_the_session_counts_for_its_messages_and_what_was_odd_in_others_does_not():
    session = (
        b"* connected 192.0.2.1 1 to x",
        b"C EHLO a b\r\n",
        b"* odd hello-name",
        b"C AUTH LOGIN\r\n",
        b"S 334 x\r\n",
        b"C ********\r\n",
        b"C ********\r\n",
        b"S 235 x\r\n",
        b"* odd auth-response",
        b"C MAIL FROM:other\r\n",
        b"* odd path-domain",
    )
    transaction = (
        b"C MAIL FROM:x\r\n",
        b"* transaction 1",
        b"* odd path-brackets",
        b"* odd path-domain",
        b"C RCPT TO:x\r\n",
        b"* odd path-domain",
        b"C RCPT TO:x\r\n",
        b"* odd path-domain",
        b"* odd something that only a newer server knows",
    )
    assert {(code, where) for code, where, _ in found_in(session, transaction)} == {
        ("hello-name", "EHLO"),
        ("auth-response", "AUTH"),
        ("path-brackets", "MAIL"),
        ("path-domain", "MAIL"),
        ("path-domain", "RCPT"),
    }
    assert len(found_in(session, transaction)) == 5, "the same command is named once"


def test_hostile_commands_are_made_visible_and_shortened():
    command = b"C " + b"\x1b[31m\xe2\x80\xae\xff" + b"x" * 60_000 + b"\r\n"
    [(_, where, text)] = found_in((), (command, b"* odd command-characters"))
    assert text.startswith(r'"\x1b[31m\u202e\xff')
    assert len(text) < 200
    assert len(where) < 30


def test_a_thousand_odd_commands_are_a_short_list():
    said = [line for n in range(1000) for line in (b"C RCPT TO:%d\r\n" % n, b"* odd path-domain")]
    assert len(found_in((), said)) == 100
