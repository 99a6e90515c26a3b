"""Messages that are written as mail programs, mailing lists, gateways and attackers write them.

A message is its number: the same everywhere and always, so that a report needs to name no more than that.
Most of each is plain; ``features`` names what is not. All lines end with CRLF, as they do in the gateway.
"""

import base64
import binascii
import random
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes

CRLF = b"\r\n"
ODD = 0.07
"""How often each thing that can be odd is."""

_PLAIN = frozenset(range(32, 127)) - frozenset(b"=")
"""Octets that quoted-printable leaves as they are."""
_WORDS = {
    "utf-8": ("Grüße", "naïve", "счёт", "日本語", "naïveté", "smörgås"),
    "iso-8859-1": ("Grüße", "naïve", "smörgås", "façade"),
    "windows-1252": ("Grüße", "façade", "„naïve“"),
    "iso-8859-15": ("Grüße", "œuvre"),
    "koi8-r": ("счёт", "привет", "оплата"),
    "windows-1251": ("счёт", "привет", "оплата"),
    "iso-8859-2": ("žluťoučký", "kůň"),
    "iso-2022-jp": ("日本語", "請求書"),
    "shift_jis": ("日本語", "請求書"),
    "euc-jp": ("日本語", "請求書"),
    "gb2312": ("发票", "中文"),
    "gb18030": ("发票", "中文"),
    "gbk": ("发票", "中文"),
    "big5": ("發票", "中文"),
    "euc-kr": ("송장", "한국어"),
    "utf-7": ("Grüße", "счёт"),
    "us-ascii": ("greetings", "invoice"),
}
_NAMES = ("report", "invoice", "счёт", "résumé", "請求書", "photo", "a b c", "setup")
_EXTENSIONS = ("exe", "pdf", "txt", "zip", "png", "docx", "js", "html")
_TYPES = (
    "application/octet-stream",
    "application/pdf",
    "image/png",
    "application/zip",
    "application/x-msdownload",
)
_COMMENTS = (
    b"(note)",
    b"(a (nested) note)",
    b"(semi; colon)",
    b'(a "quote" in it)',
    b'(one " quote)',
    b"(esc\\) aped)",
    b"()",
    b"(filename=other.txt)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One message."""

    number: int
    content: bytes
    features: tuple[str, ...]
    """What is not plain in it."""


def generated(number: int) -> Generated:
    """The message of that number."""
    writer = _Writer(random.Random(f"message {number}"))
    content = writer.message()
    return Generated(number=number, content=content, features=tuple(sorted(writer.features)))


@dataclass(slots=True)
class _Writer:
    random: random.Random
    features: set[str] = field(default_factory=set)
    count: int = 0
    depth: int = 0

    def odd(self, *features: str, chance: float = ODD) -> str:
        """One of them now and then, else nothing."""
        if self.random.random() >= chance:
            return ""
        feature = self.random.choice(features)
        self.features.add(feature)
        return feature

    def number(self) -> int:
        self.count += 1
        return self.count

    # messages and parts

    def message(self) -> bytes:
        fields = [
            b"Received: from a.example by b.example; Mon, 5 Jan 2026 10:00:00 +0000",
            b"From: Ann <ann@example.org>",
            b"To: bob@example.net",
            self.subject(),
            b"Message-ID: <%d@example.org>" % self.number(),
            b"MIME-Version: 1.0",
        ]
        if self.odd("no MIME-Version"):
            fields.pop()
        mime_fields, body = self.entity()
        return CRLF.join([*fields, *mime_fields, b"", body])

    def entity(self) -> tuple[list[bytes], bytes]:
        if self.depth < 4 and self.random.random() < (0.7, 0.35, 0.25, 0.1)[self.depth]:
            return self.multipart()
        return self.random.choice((self.text, self.text, self.html, self.file, self.file, self.file))()

    def multipart(self) -> tuple[list[bytes], bytes]:
        kind = self.odd("multipart/digest", "multipart/report", "multipart/x-unknown", "multipart/parallel")
        kind = kind or self.random.choice(("multipart/mixed", "multipart/mixed", "multipart/alternative"))
        boundary = b"b%d" % self.number()
        match self.odd("boundary with blanks", "boundary of signs", "boundary begins like the outer one"):
            case "boundary with blanks":
                boundary = b"b o u n d %d" % self.count
            case "boundary of signs":
                boundary = b"=_'()+,-./:=?%d" % self.count
            case "boundary begins like the outer one":
                boundary = b"b%d" % max(self.count - 1, 1) + b"x"
        self.depth += 1
        parts = []
        for _ in range(self.random.choice((1, 2, 2, 3))):
            if kind == "multipart/digest":
                parts.append(CRLF + self.message())
                continue
            fields, body = self.message_part() if self.odd("message in the message") else self.entity()
            if self.odd("part without fields"):
                fields, body = [], self.ascii_text()
            parts.append(CRLF.join([*fields, b"", body]))
        self.depth -= 1
        end = self.odd("blanks behind the delimiter")
        delimiter = b"--" + boundary
        blanks = b" \t" if end else b""
        body = b"".join(delimiter + blanks + CRLF + part + CRLF for part in parts)
        if not self.odd("no end boundary"):
            body += delimiter + b"--" + blanks + CRLF
        if self.odd("preamble"):
            body = b"preamble p%dre" % self.number() + CRLF + body
        if self.odd("epilogue"):
            body += b"epilogue e%dpi" % self.number() + CRLF
        value = kind.encode()
        plain = boundary.isalnum() and self.random.random() < 0.5
        value += b"; boundary=" + (boundary if plain else b'"' + boundary + b'"')
        fields = self.field(b"Content-Type", value)
        if self.odd("multipart claims 8bit", chance=0.2):
            fields += [b"Content-Transfer-Encoding: 8bit"]
        return fields, body

    def message_part(self) -> tuple[list[bytes], bytes]:
        inner = self.message()
        match self.odd("message as octet-stream", "message in base64", chance=0.3):
            case "message as octet-stream":
                fields = [b"Content-Type: application/octet-stream"]
                fields += [b"Content-Disposition: attachment; filename=m%d.eml" % self.number()]
                return [*fields, b"Content-Transfer-Encoding: base64"], base64.encodebytes(inner).replace(
                    b"\n", CRLF
                )
            case "message in base64":
                fields = [b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: base64"]
                return fields, base64.encodebytes(inner).replace(b"\n", CRLF)
        fields = [b"Content-Type: message/rfc822"]
        if self.odd("message with a name", chance=0.3):
            fields += [b"Content-Disposition: attachment; filename=m%d.eml" % self.number()]
        return fields, inner

    def ascii_text(self) -> bytes:
        number = self.number()
        return b"plain w%da words w%db" % (number, number) + CRLF

    def text(self) -> tuple[list[bytes], bytes]:
        charset = self.random.choice(("utf-8", "utf-8", "us-ascii", *_WORDS))
        octets, label = self.characters(charset)
        if self.odd("uuencoded block in a text"):
            octets += self.uuencoded_block()
        value = b"text/plain" + (b"; " + self.parameter("charset", label) if label else b"")
        fields = self.type_field(value)
        if self.odd("text with a name"):
            fields += self.disposition()
        return self.encoded(fields, octets, is_text=True)

    def html(self) -> tuple[list[bytes], bytes]:
        charset = self.random.choice(("utf-8", "iso-8859-1", "koi8-r", "windows-1251", "shift_jis", "gb2312"))
        octets, label = self.characters(charset)
        meta = b""
        if self.odd("charset only in meta", chance=0.15):
            meta, label = b'<meta charset="%s">' % charset.encode(), ""
        number = self.number()
        octets = b"<html><head>%s</head><body><p>%s</p><b>h%dt</b>ml</body></html>\r\n" % (
            meta,
            octets,
            number,
        )
        value = b"text/html" + (b"; " + self.parameter("charset", label) if label else b"")
        return self.encoded(self.type_field(value), octets, is_text=True)

    def file(self) -> tuple[list[bytes], bytes]:
        value = self.random.choice(_TYPES).encode()
        if self.random.random() < 0.5:
            value += b"; " + self.name_parameter("name")
        fields = self.type_field(value) + self.disposition()
        if self.odd("attachment is uuencoded"):
            name = self.odd("x-uuencode", "uuencode", "x-uue", "uue", chance=1)
            return [*fields, b"Content-Transfer-Encoding: " + name.encode()], self.uuencoded_block()
        return self.encoded(fields, self.random.randbytes(self.random.randint(20, 160)), is_text=False)

    # characters

    def characters(self, charset: str) -> tuple[bytes, str]:
        """Octets of a text, and the charset that is said of it."""
        words = [f"w{self.number()}c", *self.random.sample(_WORDS[charset], 2), f"w{self.number()}d"]
        octets = " ".join(words).encode(charset, "replace")
        match self.odd(
            "wrong charset", "no charset", "unknown charset", "bad octet", "cut in a character", "utf-8 bom"
        ):
            case "wrong charset":
                return octets + CRLF, self.random.choice(("utf-8", "us-ascii", "iso-8859-1"))
            case "no charset":
                return octets + CRLF, ""
            case "unknown charset":
                return octets + CRLF, "x-no-such-charset"
            case "bad octet":
                return octets + b" ba\xffd" + CRLF, charset
            case "cut in a character":
                return " ".join([*words, "Gr\u00fc"]).encode("utf-8")[:-1] + CRLF, "utf-8"
            case "utf-8 bom":
                return b"\xef\xbb\xbf" + " ".join(words).encode() + CRLF, "utf-8"
        return octets + CRLF, charset

    def subject(self) -> bytes:
        number = self.number()
        feature = self.odd(
            "subject in base64 words",
            "subject in quoted words",
            "subject cut between words",
            "subject in raw utf-8",
            "subject in raw latin-1",
            "subject in another charset",
            "subject in unknown charset",
            "subject with blanks in word",
            "subject folded",
            "subject in utf-7",
            "subject with bad octet in word",
            "Subject twice",
            chance=0.25,
        )
        prefix = b"Subject: s%da " % number
        word = f"Grüße s{number}b"
        match feature:
            case "subject in base64 words":
                return prefix + _b_word(word.encode())
            case "subject in quoted words":
                return prefix + _q_word(word.encode()) + b"\r\n " + _q_word(b" s%dc" % number)
            case "subject cut between words":
                octets = word.encode()
                return prefix + _b_word(octets[:3]) + b" " + _b_word(octets[3:])
            case "subject in raw utf-8":
                return prefix + word.encode()
            case "subject in raw latin-1":
                return prefix + word.encode("latin-1")
            case "subject in another charset":
                charset = self.random.choice(list(_WORDS))
                text = f"{_WORDS[charset][0]} s{number}b"
                return prefix + _b_word(text.encode(charset), charset.encode())
            case "subject in unknown charset":
                return prefix + _q_word(b"s%db" % number, b"x-no-such")
            case "subject with blanks in word":
                return prefix + b"=?utf-8?q?with blanks s%db?=" % number
            case "subject folded":
                return prefix + b"\r\n\tfolded s%db\r\n  twice" % number
            case "subject in utf-7":
                return prefix + _q_word("Grüße".encode("utf-7"), b"utf-7")
            case "subject with bad octet in word":
                return prefix + b"=?utf-8?q?ba=FFd_s%db?=" % number
            case "Subject twice":
                return prefix + b"\r\nSubject: again s%db" % number
        return prefix + b"plain"

    # fields

    def field(self, name: bytes, value: bytes) -> list[bytes]:
        match self.odd("field name in capitals", "field name in lower case"):
            case "field name in capitals":
                name = name.upper()
            case "field name in lower case":
                name = name.lower()
        match self.odd("comment behind the value", "comment before the value", "comment behind a semicolon"):
            case "comment behind the value":
                value += b" " + self.random.choice(_COMMENTS)
            case "comment before the value":
                value = self.random.choice(_COMMENTS) + b" " + value
            case "comment behind a semicolon":
                value = value.replace(b"; ", b"; " + self.random.choice(_COMMENTS) + b" ", 1)
        match self.odd(
            "folded at semicolons",
            "folded before semicolons",
            "folded with a blank line",
            "no blank after semicolon",
        ):
            case "folded at semicolons":
                value = value.replace(b"; ", b";\r\n\t")
            case "folded before semicolons":
                value = value.replace(b"; ", b"\r\n ; ")
            case "folded with a blank line":
                value = value.replace(b"; ", b";\r\n \r\n ", 1)
            case "no blank after semicolon":
                value = value.replace(b"; ", b";")
        match self.odd("semicolon at the end", "semicolon doubled"):
            case "semicolon at the end":
                value += b";"
            case "semicolon doubled":
                value = value.replace(b"; ", b"; ; ", 1)
        blank = b" " if self.odd("blank before the colon") else b""
        space = b"" if self.odd("no blank after the colon") else b" "
        return [name + blank + b":" + space + value]

    def type_field(self, value: bytes) -> list[bytes]:
        fields = self.field(b"Content-Type", value)
        match self.odd(
            "Content-Type twice", "Content-Type twice, the first is text", "type in capitals", chance=ODD / 2
        ):
            case "Content-Type twice":
                fields += self.field(
                    b"Content-Type", b"application/x-second; name=second%d.exe" % self.number()
                )
            case "Content-Type twice, the first is text":
                fields = [b"Content-Type: text/plain", *fields]
            case "type in capitals":
                media_type, semicolon, parameters = value.partition(b";")
                fields = self.field(b"Content-Type", media_type.upper() + semicolon + parameters)
        return fields

    def disposition(self) -> list[bytes]:
        kind = (
            self.odd("inline with a name", "ATTACHMENT", "unknown disposition").split(" ")[0] or "attachment"
        )
        value = kind.replace("unknown", "x-shown").encode()
        if self.odd("attachment without filename"):
            return self.field(b"Content-Disposition", value)
        value += b"; " + self.name_parameter("filename")
        match self.odd("filename beside filename*", "filename twice"):
            case "filename beside filename*":
                number = self.number()
                pair = [b"filename=f%da.txt" % number, b"filename*=utf-8''f%db.exe" % number]
                self.random.shuffle(pair)
                value = b"attachment; " + b"; ".join(pair)
            case "filename twice":
                number = self.number()
                value = b"attachment; filename=f%da.txt; filename=f%db.exe" % (number, number)
        if self.odd("size parameter"):
            value += b"; size=100"
        fields = self.field(b"Content-Disposition", value)
        if self.odd("Content-Disposition twice", chance=ODD / 2):
            fields += self.field(b"Content-Disposition", b"attachment; filename=second%d.exe" % self.number())
        return fields

    def name_parameter(self, parameter: str) -> bytes:
        base = self.random.choice(_NAMES)
        return self.parameter(
            parameter, f"{base}{self.number()}.{self.random.choice(_EXTENSIONS)}", is_name=True
        )

    def parameter(self, name: str, value: str, *, is_name: bool = False) -> bytes:
        ascii_name = name.encode()
        match self.odd("blanks around =", "parameter in capitals", "comment before =", "comment behind ="):
            case "blanks around =":
                equals = b" = "
            case "parameter in capitals":
                ascii_name, equals = ascii_name.upper(), b"="
            case "comment before =":
                equals = b" (c)="
            case "comment behind =":
                equals = b"= (c) "
            case _:
                equals = b"="
        octets = value.encode()
        if not octets.isascii():
            return self.non_ascii(ascii_name, equals, value)
        match self.odd(
            "quoted-pair",
            "quote not closed",
            "single quotes",
            "continued",
            "continued out of order",
            "RFC 2231 of ascii",
            "encoded-word",
            "folders in the name",
            "backslashes in the name",
            "blanks around the name",
            chance=0.3 if is_name else 0,
        ):
            case "quoted-pair":
                return ascii_name + equals + b'"' + octets[:-2] + b"\\" + octets[-2:] + b'"'
            case "quote not closed":
                return ascii_name + equals + b'"' + octets
            case "single quotes":
                return ascii_name + equals + b"'" + octets + b"'"
            case "continued":
                return b'%s*0="%s"; %s*1="%s"' % (ascii_name, octets[:4], ascii_name, octets[4:])
            case "continued out of order":
                return b'%s*1="%s"; %s*0="%s"' % (ascii_name, octets[4:], ascii_name, octets[:4])
            case "RFC 2231 of ascii":
                return ascii_name + b"*=us-ascii'en'" + quote_from_bytes(octets).encode()
            case "encoded-word":
                return ascii_name + equals + b'"' + _b_word(octets) + b'"'
            case "folders in the name":
                return ascii_name + equals + b'"/tmp/' + octets + b'"'
            case "backslashes in the name":
                return ascii_name + equals + b'"C:\\temp\\' + octets + b'"'
            case "blanks around the name":
                return ascii_name + equals + b'" ' + octets + b' "'
        if b" " in octets and is_name and self.odd("blanks without quotes", chance=0.2):
            return ascii_name + equals + octets
        if b" " in octets or self.random.random() < 0.6:
            return ascii_name + equals + b'"' + octets + b'"'
        return ascii_name + equals + octets

    def non_ascii(self, name: bytes, equals: bytes, value: str) -> bytes:
        octets = value.encode()
        match self.odd(
            "RFC 2231",
            "RFC 2231 continued",
            "RFC 2231 cut in a character",
            "RFC 2231 mixed pieces",
            "encoded-word in quotes",
            "encoded-word without quotes",
            "two encoded-words",
            "encoded-word in q",
            "raw utf-8 name",
            "raw latin-1 name",
            "RFC 2231 in koi8-r",
            "RFC 2231 without charset",
            "RFC 2231 in quotes",
            "bad octet in a name",
            chance=1,
        ):
            case "RFC 2231":
                return name + b"*" + equals + b"UTF-8''" + quote_from_bytes(octets).encode()
            case "RFC 2231 continued":
                at = len(value[: len(value) // 2].encode())
                pair = quote_from_bytes(octets[:at]).encode(), quote_from_bytes(octets[at:]).encode()
                return b"%s*0*=utf-8''%s; %s*1*=%s" % (name, pair[0], name, pair[1])
            case "RFC 2231 cut in a character":
                at = next(index for index, octet in enumerate(octets) if octet > 0x7F) + 1
                pair = quote_from_bytes(octets[:at]).encode(), quote_from_bytes(octets[at:]).encode()
                return b"%s*0*=utf-8''%s; %s*1*=%s" % (name, pair[0], name, pair[1])
            case "RFC 2231 mixed pieces":
                stem, _, extension = value.rpartition(".")
                encoded = quote_from_bytes(stem.encode()).encode()
                return b"%s*0*=utf-8''%s; %s*1=\".%s\"" % (name, encoded, name, extension.encode())
            case "encoded-word in quotes":
                return name + equals + b'"' + _b_word(octets) + b'"'
            case "encoded-word without quotes":
                return name + equals + _b_word(octets)
            case "two encoded-words":
                at = len(value[:2].encode())
                return name + equals + b'"' + _b_word(octets[:at]) + b"\r\n " + _b_word(octets[at:]) + b'"'
            case "encoded-word in q":
                return name + equals + b'"' + _q_word(octets) + b'"'
            case "raw latin-1 name":
                return name + equals + b'"' + value.encode("latin-1", "replace") + b'"'
            case "RFC 2231 in koi8-r":
                encoded = quote_from_bytes(value.encode("koi8-r", "replace")).encode()
                return name + b"*" + equals + b"koi8-r''" + encoded
            case "RFC 2231 without charset":
                return name + b"*" + equals + b"''" + quote_from_bytes(octets).encode()
            case "RFC 2231 in quotes":
                return name + b"*" + equals + b"\"utf-8''" + quote_from_bytes(octets).encode() + b'"'
            case "bad octet in a name":
                return name + equals + b'"ba\xffd-' + octets + b'"'
        return name + equals + b'"' + octets + b'"'

    # transfer encodings

    def encoded(self, fields: list[bytes], octets: bytes, *, is_text: bool) -> tuple[list[bytes], bytes]:
        encoding = self.random.choice(
            (b"quoted-printable", b"8bit", b"base64")
            if is_text
            else (b"base64",) * 4 + (b"quoted-printable",)
        )
        match encoding:
            case b"base64":
                body = self.base64(octets)
            case b"quoted-printable":
                body = self.quoted_printable(octets)
            case _:
                body = octets
        value = encoding
        match self.odd(
            "encoding in capitals",
            "encoding in quotes",
            "encoding with a semicolon",
            "comment behind encoding",
            "comment before encoding",
        ):
            case "encoding in capitals":
                value = value.upper()
            case "encoding in quotes":
                value = b'"' + value + b'"'
            case "encoding with a semicolon":
                value += b" ;"
            case "comment behind encoding":
                value += b" (c)"
            case "comment before encoding":
                value = b"(c) " + value
        blank = b" " if self.odd("blank before the colon of the encoding", chance=ODD / 2) else b""
        found = [*fields, b"Content-Transfer-Encoding%s: %s" % (blank, value)]
        match self.odd("encoding twice, 7bit first", "encoding twice, 7bit last", chance=ODD / 2):
            case "encoding twice, 7bit first":
                found.insert(len(found) - 1, b"Content-Transfer-Encoding: 7bit")
            case "encoding twice, 7bit last":
                found.append(b"Content-Transfer-Encoding: 7bit")
        self.random.shuffle(found) if self.odd("fields in another order") else None
        return found, body

    def base64(self, octets: bytes) -> bytes:
        match self.odd(
            "base64 padded in the middle",
            "base64 with a footer",
            "base64 with noise",
            "base64 on one line",
            "base64 not padded",
            "base64 with empty lines",
            "base64 with blanks",
            "base64 cut",
            chance=0.15,
        ):
            case "base64 padded in the middle":
                return _base64_lines(octets[:10]) + _base64_lines(octets[10:])
            case "base64 with a footer":
                padded = octets + b"." * (-len(octets) % 3 + 1)
                return _base64_lines(padded) + b"f%doot ignored" % self.number() + CRLF
            case "base64 with noise":
                return _base64_lines(octets).replace(CRLF, b"!\r\n-\r\n")
            case "base64 on one line":
                return base64.b64encode(octets) + CRLF
            case "base64 not padded":
                return _base64_lines(octets).replace(b"=", b"")
            case "base64 with empty lines":
                return _base64_lines(octets).replace(CRLF, b"\r\n\r\n")
            case "base64 with blanks":
                return _base64_lines(octets).replace(CRLF, b" \t\r\n ")
            case "base64 cut":
                return base64.b64encode(octets)[:-5] + CRLF
        return _base64_lines(octets)

    def quoted_printable(self, octets: bytes) -> bytes:
        body = b"".join(_quoted_line(line) for line in octets.split(CRLF))[: -len(CRLF)]
        match self.odd(
            "soft breaks",
            "soft breaks with blanks",
            "bad escapes",
            "escapes in lower case",
            "= at the end",
            "blanks at line ends",
            chance=0.2,
        ):
            case "soft breaks":
                return b"so=\r\nf" + b"t%d " % self.number() + body
            case "soft breaks with blanks":
                return b"so= \t\r\nf" + b"t%d " % self.number() + body
            case "bad escapes":
                return b"b=ZZad =4 e%dsc " % self.number() + body
            case "escapes in lower case":
                return b"l=c3=b6w%d " % self.number() + body
            case "= at the end":
                return body.rstrip(CRLF) + b"="
            case "blanks at line ends":
                return b"bl%d  \r\n" % self.number() + body
        return body

    def uuencoded_block(self) -> bytes:
        octets = self.random.randbytes(self.random.randint(20, 120))
        lines = [binascii.b2a_uu(octets[at : at + 45]).rstrip(b"\n") for at in range(0, len(octets), 45)]
        name = b"uu%d.exe" % self.number()
        if self.odd("uuencoded with backquotes", chance=0.3):
            lines = [line.replace(b" ", b"`") for line in lines]
        end = [] if self.odd("uuencoded without end", chance=0.15) else [b"`", b"end"]
        return CRLF.join([b"begin 644 " + name, *lines, *end, b""])


def _base64_lines(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", CRLF)


def _quoted_line(octets: bytes) -> bytes:
    encoded = [b"%c" % octet if octet in _PLAIN else b"=%02X" % octet for octet in octets]
    lines = (encoded[at : at + 24] for at in range(0, len(encoded), 24))
    return b"=\r\n".join(b"".join(line) for line in lines) + CRLF


def _b_word(octets: bytes, charset: bytes = b"utf-8") -> bytes:
    return b"=?%s?B?%s?=" % (charset, base64.b64encode(octets))


def _q_word(octets: bytes, charset: bytes = b"utf-8") -> bytes:
    encoded = b"".join(
        b"%c" % octet if chr(octet).isalnum() and octet < 128 else b"=%02X" % octet for octet in octets
    )
    return b"=?%s?q?%s?=" % (charset, encoded)
