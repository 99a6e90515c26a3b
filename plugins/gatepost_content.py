"""What the content of a file shows that it is, and whether that is what its names and type claim.

Two rules say that a claim is false:

- Programs, scripts, archives and office files may not be called something else.
- What is called a PDF, picture, sound, film, office file or archive must begin as one of those does.

The second is as lenient as the readers are, since honest mail is: pictures and films may be of another kind
of picture or film; a PDF begins within 1,024 bytes; an MP3 may have zeros before it; ``.doc`` may be RTF,
Office Open XML, HTML or MIME, which Word takes; ``.xls`` may be any of these or a text, since programs export
HTML, XML and CSV under that name and mail programs declare CSV as ``application/vnd.ms-excel``; ``.docx`` and
its like may be an OLE file, which is what they are with a password. An empty file claims nothing.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import puremagic

__all__ = ["Kind", "false_claim", "other_types", "sniffed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """What content surely is."""

    name: str
    """program, script, archive or office: what may not come under another name; else empty."""
    types: tuple[str, ...]


_PROGRAM = Kind("program", ("application/x-dosexec", "application/vnd.microsoft.portable-executable"))
_OOXML = Kind("office", ("application/vnd.openxmlformats-officedocument",))
_ODF = Kind("office", ("application/vnd.oasis.opendocument",))
_ZIP = Kind("archive", ("application/zip", "application/x-zip-compressed"))
_SCRIPT = Kind("script", ("text/x-shellscript", "application/x-shellscript"))
_SIGNATURES = {
    b"\x7fELF": Kind("program", ("application/x-elf", "application/x-executable")),
    b"\xfe\xed\xfa\xce": Kind("program", ("application/x-mach-binary",)),
    b"\xfe\xed\xfa\xcf": Kind("program", ("application/x-mach-binary",)),
    b"\xce\xfa\xed\xfe": Kind("program", ("application/x-mach-binary",)),
    b"\xcf\xfa\xed\xfe": Kind("program", ("application/x-mach-binary",)),
    b"\xca\xfe\xba\xbe": Kind("program", ("application/java-vm", "application/x-mach-binary")),
    b"L\0\0\0\x01\x14\x02\0": Kind("program", ("application/x-ms-shortcut",)),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": Kind("office", ("application/x-ole-storage",)),
    b"Rar!\x1a\x07": Kind("archive", ("application/vnd.rar", "application/x-rar-compressed")),
    b"7z\xbc\xaf\x27\x1c": Kind("archive", ("application/x-7z-compressed",)),
    b"\x1f\x8b\x08": Kind("archive", ("application/gzip", "application/x-gzip")),
    b"\xfd7zXZ\0": Kind("archive", ("application/x-xz",)),
    b"MSCF\0\0\0\0": Kind("archive", ("application/vnd.ms-cab-compressed",)),
    b"%PDF-": Kind("", ("application/pdf",)),
    b"\x89PNG\r\n\x1a\n": Kind("", ("image/png",)),
    b"\xff\xd8\xff": Kind("", ("image/jpeg",)),
    b"GIF8": Kind("", ("image/gif",)),
}


def sniffed(content: bytes) -> Kind | None:
    """What the content surely is; None where it may be anything."""
    if content.startswith(b"MZ"):
        header = int.from_bytes(content[60:64], "little")
        return _PROGRAM if content[header : header + 2] in (b"PE", b"NE", b"LE", b"LX") else None
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        head = content[:4096]
        if b"[Content_Types].xml" in head or b"_rels/.rels" in head:
            return _OOXML
        return _ODF if content[30:38] == b"mimetype" else _ZIP
    if re.match(rb"#! ?/", content):
        return _SCRIPT
    return next((kind for signature, kind in _SIGNATURES.items() if content.startswith(signature)), None)


def other_types(content: bytes) -> list[str]:
    """The types of the surest guess at content that `sniffed` does not know; empty if there is no guess.

    A library that fails on some content is a warning: the message would fail again at each of its retries.
    """
    try:
        guesses = puremagic.magic_string(content)
        best = max((guess.confidence for guess in guesses), default=0)
        sure = [guess for guess in guesses if guess.confidence == best and len(guess.byte_match) >= 4]
        return sorted({guess.mime_type.lower() for guess in sure if guess.mime_type})
    except puremagic.PureError:  # releases before 2 raise it where later ones return no guess
        return []
    except Exception as error:  # noqa: BLE001 - whatever it raises, on content that a stranger wrote
        if content:
            log.warning("puremagic failed on content of %d bytes: %r", len(content), error)
        return []


# Claims --------------------------------------------------------------------------------------------------

_OFFICE = (
    "doc docm docx dot dotm dotx msg odg odp ods odt pot potm potx pps ppsm ppsx ppt pptm pptx pub rtf"
    " vsd vsdx xls xlsb xlsm xlsx xlt xltm xltx"
)
_MEDIA = (
    "3gp aac aif aiff amr asf avi flac flv m4a m4v mid midi mkv mov mp3 mp4 mpeg mpg oga ogg opus wav"
    " webm wma wmv"
)
_CLAIMS = {
    "picture": "avif bmp dib gif heic heif ico jfif jpe jpeg jpg png svg tif tiff webp",
    "media": _MEDIA,
    "pdf": "pdf",
    "text": "csv eml htm html ics json log md rtf txt vcf xml",
    "office": _OFFICE,
    "archive": "7z bz2 cab epub gz jar rar tar tgz xz zip zst",
}
_CLAIMED = {extension: claim for claim, extensions in _CLAIMS.items() for extension in extensions.split()}
_CLAIMED_TYPES = {"image/": "picture", "audio/": "media", "video/": "media", "application/pdf": "pdf"}
_FALSE_CLAIMS = {
    "program": {"picture", "media", "pdf", "text", "office", "archive"},
    "script": {"picture", "media", "pdf", "office", "archive"},
    "archive": {"picture", "media", "pdf", "text"},
    "office": {"picture", "media", "pdf", "text"},
}

_OLE = rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_IN_ZIP = rb"PK(?:\x03\x04|\x05\x06|\x07\x08)"
_MARKUP = rb"\s*(?:<|MIME-Version:)"
_RTF = rb"\s*\{\\rt"
_BEGINNINGS = {
    "picture": rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP|\0\0[\x01\x02]\0|.{4}ftyp"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0|II[\x2a\x2b]\0|MM\0[\x2a\x2b]"
    rb"|\0\0\0\x0c(?:jP  |JXL )|\xff\x0a|\xff\x4f\xff\x51",
    "media": rb"\0*(?:ID3|\xff[\xe2-\xe5\xf0-\xf5\xf8-\xfd]|APETAGEX)|RIFF|RIFX|RF64|OggS|fLaC|#!AMR"
    rb"|FORM|MThd|FLV\x01|ADIF|\.snd|caff|.{4}(?:ftyp|moov|mdat|free|wide|skip|pnot)|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75"
    rb"|\0\0\x01[\xb0-\xbf]|G.{187}G",
    "zip": _IN_ZIP,
    "office file": rb"|".join((_IN_ZIP, _OLE)),
    "document": rb"|".join((_OLE, _IN_ZIP, _RTF, _MARKUP, rb"\xdb\xa5")),
    "sheet": rb"|".join(
        (_OLE, _IN_ZIP, _RTF, rb"\xff\xfe|\xfe\xff|\x09[\0\x02\x04\x08]", rb"[^\0]{1,512}(?:[^\0]|\Z)")
    ),
    "OLE file": _OLE,
    "RTF": rb"|".join((_RTF, _OLE, _IN_ZIP)),
    "gzip": rb"\x1f\x8b",
    "bzip2": rb"BZh[1-9]",
    "xz": rb"\xfd7zXZ\0",
    "Zstandard": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "7z": rb"7z\xbc\xaf\x27\x1c",
    "rar": rb"Rar!\x1a\x07",
    "cab": rb"MSCF",
}
"""How a file of that kind begins, after a byte order mark."""
_BEGINS: dict[str, Callable[[bytes], object]] = {
    "pdf": re.compile(rb"[\0-\xff]{0,1024}?%PDF-", re.DOTALL).match,
    **{
        kind: re.compile(rb"(?:\xef\xbb\xbf)?(?:" + pattern + rb")", re.DOTALL).match
        for kind, pattern in _BEGINNINGS.items()
    },
}
_FIXED = {
    "pdf": "pdf",
    "picture": "avif bmp dib gif heic heif ico jfif jpe jpeg jpg png tif tiff webp",
    "media": _MEDIA,
    "zip": "zip epub jar odg odp ods odt",
    "office file": "docm docx dotm dotx pot potm potx pps ppsm ppsx ppt pptm pptx vsdx xlsb xlsm xlsx xltm"
    " xltx",
    "document": "doc dot",
    "sheet": "xls xlt",
    "OLE file": "msi pub vsd",
    "RTF": "rtf",
    "gzip": "gz tgz",
    "bzip2": "bz2",
    "xz": "xz",
    "Zstandard": "zst",
    "7z": "7z",
    "rar": "rar",
    "cab": "cab",
}
_FIXED_BY_EXTENSION = {
    extension: kind for kind, extensions in _FIXED.items() for extension in extensions.split()
}
_FIXED_BY_TYPE = (
    (re.compile(r"application/(?:x-)?pdf"), "pdf"),
    (re.compile(r"image/(?:p?jpe?g|x?-?png|gif|webp|(?:x-)?(?:ms-)?bmp|tiff?|hei[cf]|avif)"), "picture"),
    (
        re.compile(
            r"audio/(?:x-)?(?:mpeg|mp[34]|m4a|wave?|vnd\.wave|ogg|flac|aac|amr|aiff)"
            r"|video/(?:x-)?(?:mp4|mpeg|quicktime|webm|ogg|msvideo|matroska|ms-wmv|3gpp)"
        ),
        "media",
    ),
    (
        re.compile(
            r"application/(?:x-)?zip(?:-compressed)?|application/vnd\.oasis\.opendocument\.(?:text|spreadsheet|presentation)"
        ),
        "zip",
    ),
    (
        re.compile(
            r"application/vnd\.(?:openxmlformats-officedocument\..*|ms-(?:word|excel|powerpoint)\..*\.12|ms-powerpoint)"
        ),
        "office file",
    ),
    (re.compile(r"application/msword"), "document"),
    (re.compile(r"application/vnd\.ms-excel"), "sheet"),
    (re.compile(r"(?:application|text)/(?:x-)?rtf"), "RTF"),
    (re.compile(r"application/(?:x-)?gzip"), "gzip"),
    (re.compile(r"application/x-bzip2"), "bzip2"),
    (re.compile(r"application/x-xz"), "xz"),
    (re.compile(r"application/(?:x-)?zstd"), "Zstandard"),
    (re.compile(r"application/x-7z-compressed"), "7z"),
    (re.compile(r"application/(?:vnd\.|x-)rar(?:-compressed)?"), "rar"),
)
_APPLE_DOUBLE = b"\0\x05\x16\x07"
"""What a Mac adds to a file, under the file's own name (RFC 1740)."""
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_ENCODED = re.compile(rb"\s*(?:begin [0-7]{3,4} \S|\(This file must be converted with BinHex)")
"""uuencode or BinHex: what it decodes to is an attachment of its own, or no reader opens it."""


def false_claim(content: bytes, plain_names: Iterable[str], content_type: str) -> tuple[str, str]:
    """What it is, and what a name or else the declared type claims; empty where no claim is false."""
    if not content or content.startswith(_APPLE_DOUBLE) or _ENCODED.match(content):
        return "", ""
    kind = sniffed(content)
    extensions = [extension for name in plain_names if (extension := _extension(name))]
    is_message = content_type.startswith("message/") and _FIELD.match(content)
    for extension in extensions:
        claim = _CLAIMED.get(extension, "")
        if kind and claim in _FALSE_CLAIMS.get(kind.name, ()):
            return f"content of type {kind.types[0]}", f"named like {claim}"
        fixed = _FIXED_BY_EXTENSION.get(extension)
        if fixed and not is_message and not _BEGINS[fixed](content):
            return f"content that is no {fixed}", f"named .{extension}"
    if kind and not any(extension in _CLAIMED for extension in extensions):
        for start, claim in _CLAIMED_TYPES.items():
            if content_type.startswith(start) and claim in _FALSE_CLAIMS.get(kind.name, ()):
                return f"content of type {kind.types[0]}", f"declared as {content_type}"
    for declared, fixed in _FIXED_BY_TYPE:
        if declared.fullmatch(content_type) and not _BEGINS[fixed](content):
            return f"content that is no {fixed}", f"declared as {content_type}"
    return "", ""


def _extension(name: str) -> str:
    """What follows the last dot; empty where there is none."""
    return name.rpartition(".")[2] if "." in name else ""
