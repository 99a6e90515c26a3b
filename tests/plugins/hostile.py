"""Mail made to be misread or to take for ever: cases 91 to 97 of docs/reliability.md, with a part to find."""

import base64
import io
import struct
import zipfile

TOP = b"From: <eve@example.org>\r\nSubject: look\r\nMIME-Version: 1.0\r\n"
MULTIPART = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def hostile(body, kind=b"text/plain", fields=b""):
    """The messages by the number of their case and what they are: each has a part with this body."""
    rest = fields + b"\r\n" + body + b"\r\n"
    part = b"Content-Type: " + kind + b"\r\n" + rest
    return {
        "91 nesting of 300": nested(300) + part,
        "91 nesting of 1,000": nested(1000) + part,
        "91 forwarded 1,000 times": (TOP + b"Content-Type: message/rfc822\r\n\r\n") * 1000 + TOP + part,
        "92 9,000 parts": MULTIPART + b"--b\r\n\r\nx\r\n" * 9_000 + b"--b\r\n" + part + b"--b--\r\n",
        "92 40,000 parts": MULTIPART + b"--b\r\n\r\nx\r\n" * 40_000 + b"--b\r\n" + part + b"--b--\r\n",
        "92 40,000 fields": TOP + b"".join(b"X-%d: y\r\n" % n for n in range(40_000)) + part,
        "93 parameters": TOP + b"Content-Type: " + kind + b"; a*0*=x" * 4_000 + b"\r\n" + rest,
        "94 Message-ID": TOP + b"Message-ID: " + b"<" * 1000 + b"\r\n" + part,
        "94 From": b'From: "\r\nMIME-Version: 1.0\r\n' + part,
        "94 To": TOP + b"To: " + b"(" * 1000 + b"\r\n" + part,
        **{
            f"95 {charset[:20]}": TOP + b"Content-Type: %b; charset=%b\r\n" % (kind, charset.encode()) + rest
            for charset in ("undefined", "idna", "zlib", "unicode_escape", "utf-7", "a" * 10_000)
        },
        "96 nested bombs": MULTIPART
        + b"--b\r\n"
        + zipped(nested_archives())
        + b"--b\r\n"
        + part
        + b"--b--\r\n",
        "96 overlapping": MULTIPART + b"--b\r\n" + zipped(overlapping()) + b"--b\r\n" + part + b"--b--\r\n",
        **{
            f"97 {name}": MULTIPART
            + b"--b\r\nContent-Disposition: attachment; "
            + parameter
            + b"\r\n"
            + part
            + b"--b--\r\n"
            for name, parameter in {
                "path": b'filename="../../etc/cron.d/x"',
                "NUL, right to left": b"filename*=utf-8''a%00%E2%80%AEb",
                "10,000 letters": b'filename="' + b"a" * 10_000 + b'"',
            }.items()
        },
    }


def nested(levels):
    return TOP + b"".join(
        b"Content-Type: multipart/mixed; boundary=x%d\r\n\r\n--x%d\r\n" % (n, n) for n in range(levels)
    )


def zipped(archive):
    """A part that is an attached archive."""
    head = b'Content-Disposition: attachment; filename="a.zip"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return head + base64.encodebytes(archive).replace(b"\n", b"\r\n")


def archived(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # the same bytes always
    return file.getvalue()


def overlapping(members=20_000):
    """Each entry of the directory is the same member of 1 MB."""
    member = archived("a", bytes(1 << 20))
    begin, end = member.index(b"PK\1\2"), member.index(b"PK\5\6")
    directory = member[begin:end] * members
    return (
        member[:begin]
        + directory
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, members, members, len(directory), begin, 0)
    )


def nested_archives(levels=6):
    content = archived("a.txt", bytes(1 << 24))
    for _ in range(levels):
        content = archived("a.zip", content)
    return content
