"""What kinds of archive content is: all of them, since content may be several at once.

A reader goes by a file's ending, its beginning or its end, or searches for a signature, and opens the first
kind that it finds; another reader finds another. So every kind is returned, with its offset.

Time is linear in the size: signatures are searched for with `bytes.find`, and what follows one is checked,
since programs hold signatures too. More than `_CANDIDATES_LIMIT` of one signature are reported as `TOO_MANY`.
"""

import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator

from gatepost_zip import zip_is_in

__all__ = [
    "EMBEDDED_TAR",
    "ENCRYPTED_OFFICE",
    "TAIL",
    "TOO_MANY",
    "UNKNOWN",
    "header_of_tar",
    "is_tar",
    "kinds_of",
    "may_be_message",
]

TAIL = 66_000
"""Bytes at the end of a file in which a zip's directory ends: the longest comment and what is before it."""
ENCRYPTED_OFFICE = "encrypted office file"
EMBEDDED_TAR = "embedded tar"
"""A tar file behind something else, and perhaps before something else."""
TOO_MANY = "too many signatures of archives"
UNKNOWN = frozenset(
    (
        "ace",
        "alz",
        "arj",
        "dmg",
        "egg",
        "freearc",
        "kwaj",
        "rar14",
        "rpm",
        "squashfs",
        "stuffit",
        "szdd",
        "vhd",
        "vhdx",
        "warc",
        "wim",
        "zoo",
    )
)
"""Kinds without a reader."""
_CANDIDATES_LIMIT = 100_000
"""Of a signature in a file, most of them without what must follow it."""
_OF_A_KIND = 3
"""Archives of one kind that are searched for in a file: readers open the first that is valid."""
_HEADS = re.compile(
    rb"(?P<zip>PK\x03\x04|PK\x05\x06|PK\x07\x08PK)|(?P<gzip>\x1f\x8b\x08)"
    rb"|(?P<bzip2>BZh[1-9](?:1AY&SY|\x17rE8P\x90))|(?P<xz>\xfd7zXZ\0)"
    rb"|(?P<lzma>\]\0\0[\0-\xff]{2}(?:\xff{8}|[\0-\xff]{4}\0{4}))"
    rb"|(?P<zstd>\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)|(?P<sevenzip>7z\xbc\xaf\x27\x1c)"
    rb"|(?P<rar>Rar!\x1a\x07[\0\x01])|(?P<cab>MSCF\0{4})|(?P<ar>!<arch>\n)|(?P<xar>xar!\0\x1c)"
    rb"|(?P<compress>\x1f\x9d[\x89-\x90])|(?P<lz4>\x04\x22\x4d\x18)|(?P<lzip>LZIP[\0\x01])"
    rb"|(?P<cpio>07070[127][0-9A-Fa-f]{70})|(?P<arj>\x60\xea.[\0-\x0a][\x1e-\x40][\x01-\x20])"
    rb"|(?P<alz>ALZ\x01)|(?P<egg>EGGA\0\x01)|(?P<stuffit>SIT!.{6}rLau|StuffIt )"
    rb"|(?P<wim>MSWIM\0{3})|(?P<freearc>ArC\x01)"
    rb"|(?P<vhd>conectix)|(?P<vhdx>vhdxfile)|(?P<rpm>\xed\xab\xee\xdb)|(?P<squashfs>hsqs.{24}\x04\0)"
    rb"|(?P<rar14>RE~\^)|(?P<szdd>SZDD\x88\xf0\x27\x33|SZ \x88\xf0\x27\x33\xd1)"
    rb"|(?P<kwaj>KWAJ\x88\xf0\x27\xd1)|(?P<warc>WARC/[01]\.\d)",
    re.DOTALL,
)
"""What files begin with; no two of these at once."""
_LATER_HEADS = (
    ("lha", re.compile(rb"..-l[hz][0-9a-dsx]-.{13}[\0-\x03]", re.DOTALL)),
    ("ace", re.compile(rb".{7}\*\*ACE\*\*", re.DOTALL)),
    ("zoo", re.compile(rb".{20}\xdc\xa7\xc4\xfd", re.DOTALL)),
)
"""What is a few bytes behind the beginning, so that another kind may begin before it."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
"""A stream of an OLE file: an office file with a password (MS-OFFCRYPTO 2.3.4)."""
_ISO_MARKS = (b"CD001", b"BEA01", b"CDROM")
_ISO_MARK_AT = 32_769


def kinds_of(content: bytes, names: Iterable[str] = ()) -> list[tuple[str, int]]:
    """The kinds of archive that it is, and at which offset; mostly none or one.

    Its ``names`` only help to tell LZMA files, which have no signature.
    """
    kinds: list[tuple[str, int]] = []
    if head := _HEADS.match(content):
        kinds.append((head.lastgroup or "", 0))
    elif _is_lzma(content, names):
        kinds.append(("lzma", 0))
    elif _is_old_cpio(content):
        kinds.append(("cpio", 0))
    elif content.startswith(_OLE) and _ENCRYPTED_PACKAGE in content:
        kinds.append((ENCRYPTED_OFFICE, 0))
    kinds += ((kind, 0) for kind, pattern in _LATER_HEADS if pattern.match(content))
    if is_tar(content):
        kinds.append(("tar", 0))
    if content[_ISO_MARK_AT : _ISO_MARK_AT + 5] in _ISO_MARKS:
        kinds.append(("iso", 0))
    if content[-512:-504] == b"conectix":
        kinds.append(("vhd", 0))
    if content[-512:-508] == b"koly":
        kinds.append(("dmg", 0))
    kinds += _searched(content, {kind for kind, _ in kinds})
    if ("zip", 0) not in kinds and zip_is_in(content):
        kinds.append(("zip", 0))
    return kinds


def _is_lzma(content: bytes, names: Iterable[str]) -> bool:
    """Whether a decoder accepts it, and its name or the size of its dictionary is that of LZMA files.

    The format has no signature, only properties, the dictionary's size, its own size or -1, and a zero.
    """
    size = content[5:13]
    if len(content) < 14 or content[0] >= 225 or content[13] or size == bytes(8):
        return False
    if size[5:] not in (bytes(3), b"\xff" * 3):
        return False
    dictionary = int.from_bytes(content[1:5], "little")
    lowest = dictionary & -dictionary
    usual = dictionary in (lowest, 3 * lowest, 0xFFFFFFFF) and dictionary > 0
    if not usual and not any(name.lower().endswith((".lzma", ".tlz")) for name in names):
        return False
    # a small dictionary in place of a large one, since only the beginning is decoded
    begin = content[:1] + (1 << 16).to_bytes(4, "little") + content[5:4096]
    try:
        return bool(lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(begin, 1))
    except lzma.LZMAError:
        return False
    except Exception:  # noqa: BLE001 - the reader will report what this is
        return True


def _is_old_cpio(content: bytes) -> bool:
    """Whether it begins with the header of a binary cpio in either order of bytes."""
    if content.startswith(b"\xc7\x71"):
        length = int.from_bytes(content[20:22], "little")
    elif content.startswith(b"\x71\xc7"):
        length = int.from_bytes(content[20:22], "big")
    else:
        return False
    return length > 1 and content[25 + length : 26 + length] == b"\0"


# Tar headers ---------------------------------------------------------------------------------------------

_ZEROS = re.compile(rb"\0*")
_SUM = re.compile(rb"[ \0]*([0-7]{1,8})")


def is_tar(content: bytes) -> bool:
    """Whether it begins with a tar header: by the signature, or by the sum of the first that is not zeros."""
    if content[257:262] == b"ustar":
        return True
    zeros = _ZEROS.match(content)
    start = zeros.end() // 512 * 512 if zeros else 0
    return header_of_tar(content[start : start + 512])


def header_of_tar(block: bytes) -> bool:
    """Whether the block is a tar header by its sum, of its bytes with or without a sign."""
    found = _SUM.match(block, 148, 156)
    if not found or len(block) < 512 or not block[0]:
        return False
    expected = int(found[1], 8)
    rest = block[:148] + block[156:512]
    unsigned = sum(rest) + 8 * 32
    if unsigned == expected:
        return True
    return not block.isascii() and unsigned - 256 * len(rest.translate(None, _ASCII)) == expected


_ASCII = bytes(range(128))


# Signatures anywhere -------------------------------------------------------------------------------------


def _searched(content: bytes, known: set[str]) -> Iterator[tuple[str, int]]:
    """Archives behind something else, checked by what follows the signature."""
    for kind, signature, before, is_one in _SIGNATURES:
        found = 0
        if kind in _ONCE and kind in known:
            continue
        for number, position in enumerate(_positions(content, signature)):
            if number >= _CANDIDATES_LIMIT:
                yield TOO_MANY, 0
                break
            start = position - before
            if start > 0 and is_one(content[start : start + _CHECKED]):
                yield EMBEDDED_TAR if kind == "tar" else kind, start
                found += 1
                if found == (1 if kind in _ONCE else _OF_A_KIND):
                    break


def _positions(content: bytes, signature: bytes) -> Iterator[int]:
    position = content.find(signature, 1)
    while position >= 0:
        yield position
        position = content.find(signature, position + 1)


_CHECKED = 512
"""Bytes from the beginning of an archive that are checked."""
_ONCE = frozenset(("tar", "iso", "cpio", "gzip", "xz", "bzip2"))
"""Kinds whose signature is in every member, stream or volume descriptor."""


def _is_sevenzip(header: bytes) -> bool:
    return len(header) >= 32 and zlib.crc32(header[12:32]) == int.from_bytes(header[8:12], "little")


def _is_rar(header: bytes) -> bool:
    """Whether the main header follows (or, in RAR 5, that of encrypted names)."""
    if header[6:7] == b"\0":
        return header[9:10] == b"\x73"
    size = header[12:13]  # of the header, in one byte for these
    length = size[0] if size else 0
    return header[6:8] == b"\x01\0" and zlib.crc32(header[12 : 13 + length]) == int.from_bytes(
        header[8:12], "little"
    )


def _is_cab(header: bytes) -> bool:
    return header[24:26] == b"\x03\x01"


def _is_gzip(header: bytes) -> bool:
    """Whether its flags and system are known (RFC 1952 2.3), and the beginning can be inflated."""
    if len(header) < 18 or header[3] & 0xE0 or header[8] not in (0, 2, 4) or 13 < header[9] < 255:
        return False
    try:
        zlib.decompressobj(31).decompress(header, 64)
    except zlib.error:
        return False
    except Exception:  # noqa: BLE001 - as above
        return True
    return True


def _is_xz(header: bytes) -> bool:
    return zlib.crc32(header[6:8]) == int.from_bytes(header[8:12], "little")


def _is_bzip2(header: bytes) -> bool:
    return bool(_HEADS.match(header)) and header.startswith(b"BZh")


def _is_cpio(header: bytes) -> bool:
    head = _HEADS.match(header)
    return head is not None and head.lastgroup == "cpio"


def _is_any(_header: bytes) -> bool:
    return True


_SIGNATURES: tuple[tuple[str, bytes, int, Callable[[bytes], bool]], ...] = (
    ("sevenzip", b"7z\xbc\xaf\x27\x1c", 0, _is_sevenzip),
    ("rar", b"Rar!\x1a\x07", 0, _is_rar),
    ("cab", b"MSCF\0\0\0\0", 0, _is_cab),
    ("gzip", b"\x1f\x8b\x08", 0, _is_gzip),
    ("xz", b"\xfd7zXZ\0", 0, _is_xz),
    ("bzip2", b"1AY&SY", 4, _is_bzip2),
    ("xar", b"xar!\0\x1c\0\1", 0, _is_any),
    ("wim", b"MSWIM\0\0\0\xd0\0\0\0", 0, _is_any),
    ("cpio", b"07070", 0, _is_cpio),
    ("tar", b"ustar", 257, header_of_tar),
    ("iso", b"\x01CD001\x01", _ISO_MARK_AT - 1, _is_any),
    ("iso", b"\0BEA01\x01", _ISO_MARK_AT - 1, _is_any),
)
"""Kind, signature, how many bytes of the archive come before it, and whether it is one."""

# Messages ------------------------------------------------------------------------------------------------

_FIELD = re.compile(rb"\s*(?:From .*\n)?[!-9;-~]+[ \t]*:")
_MIME_FIELD = re.compile(
    rb"^(?:mime-version|content-(?:type|transfer-encoding|disposition))[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_MESSAGE_NAMES = (".eml", ".mht", ".mhtml", ".mbox", ".nws")


def may_be_message(content: bytes, names: Iterable[str]) -> bool:
    """Whether it is a message with parts, by its first fields or by a name."""
    if any(name.lower().endswith(_MESSAGE_NAMES) for name in names):
        return bool(content)
    return bool(_FIELD.match(content[:1000]) and _MIME_FIELD.search(content[:16_384]))
