"""Compound files (MS-CFB), made small for tests, and VBA source as MS-OVBA 2.4.1 stores it."""

import io
import struct
import zipfile
from itertools import pairwise

_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound(files):
    """A compound file of streams by their paths, such as ``{"VBA/dir": b"..."}``."""
    entries = [("Root Entry", 5, b"")]
    children = {0: []}
    known = {"": 0}
    for path, content in files.items():
        parent = ""
        *folders, name = path.split("/")
        for folder in folders:
            here = f"{parent}/{folder}".lstrip("/")
            if here not in known:
                known[here] = len(entries)
                children[known[here]] = []
                children[known[parent]].append(len(entries))
                entries.append((folder, 1, b""))
            parent = here
        children[known[parent]].append(len(entries))
        entries.append((name, 2, content))
    mini, mini_fat, starts = b"", [], {}
    for number, (_, kind, content) in enumerate(entries):
        if kind == 2:
            starts[number] = len(mini) // 64 if content else _END
            count = -(-len(content) // 64)
            mini_fat += [len(mini_fat) + 1 + n for n in range(count - 1)] + [_END] * (count > 0)
            mini += content + bytes(-len(content) % 64)
    directory = b""
    for number, (name, kind, content) in enumerate(entries):
        # The children of a storage are a tree; here each is the right one of the one before.
        below = sorted(
            children.get(number, []), key=lambda one: (len(entries[one][0]), entries[one][0].upper())
        )
        siblings = next(
            (
                sorted(c, key=lambda one: (len(entries[one][0]), entries[one][0].upper()))
                for c in children.values()
                if number in c
            ),
            [number],
        )
        right = dict(pairwise(siblings)).get(number, _FREE)
        text = (name + "\0").encode("utf-16-le")
        start = starts.get(number, 0)
        size = len(content)
        if kind == 5:
            start, size = 0, len(mini)  # patched below
        directory += text.ljust(64, b"\0") + struct.pack(
            "<HBBIII16sIQQIQ",
            len(text),
            kind,
            1,
            _FREE,
            right,
            below[0] if below else _FREE,
            bytes(16),
            0,
            0,
            0,
            start,
            size,
        )
    directory += bytes(-len(directory) % 512)
    mini_table = b"".join(struct.pack("<I", one) for one in mini_fat)
    mini_table += b"\xff" * (-len(mini_table) % 512)
    mini += bytes(-len(mini) % 512)
    sectors, chains = [], []
    places = []
    for part in (directory, mini_table, mini):
        count = len(part) // 512
        places.append(len(chains) if count else _END)
        base = len(chains)
        chains += [base + 1 + n for n in range(count - 1)] + [_END] * (count > 0)
        sectors.append(part)
    fat_count = 1
    while (len(chains) + fat_count) * 4 > fat_count * 512:
        fat_count += 1
    fat_at = len(chains)
    chains += [_FAT] * fat_count
    fat = b"".join(struct.pack("<I", one) for one in chains)
    fat += b"\xff" * (-len(fat) % 512)
    root = directory[:116] + struct.pack("<I", places[2]) + directory[120:]
    header = struct.pack(
        "<8s16sHHHHH6sIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        bytes(16),
        0x3E,
        3,
        0xFFFE,
        9,
        6,
        bytes(6),
        0,
        fat_count,
        places[0],
        0,
        4096,
        places[1],
        len(mini_table) // 512,
        _END,
        0,
    )
    difat = [fat_at + n for n in range(fat_count)]
    header += b"".join(struct.pack("<I", one) for one in difat) + b"\xff" * (4 * (109 - len(difat)))
    return header + root + mini_table + mini + fat


def compressed(text):
    """Text in a compressed container: each chunk of literal tokens only (MS-OVBA 2.4.1.1.5)."""
    out = b"\x01"
    for start in range(0, len(text), 3600):
        piece = text[start : start + 3600]
        tokens = b"".join(b"\0" + piece[n : n + 8] for n in range(0, len(piece), 8))
        out += struct.pack("<H", 0xB000 | (len(tokens) + 2 - 3)) + tokens
    return out


def compressed_by_copies(text):
    """The same with a copy token wherever three to eight bytes were there before; a text of one chunk."""
    tokens, position = [], 0
    while position < len(text):
        bits = max(4, (position - 1).bit_length())  # of the offset (MS-OVBA 2.4.1.3.19.1)
        at, size = max(
            ((text.rfind(text[position : position + size], 0, position), size) for size in range(3, 9)),
            key=lambda found: found[1] if found[0] >= 0 else 0,
        )
        if at >= 0 and position + size <= len(text):
            tokens.append(struct.pack("<H", (position - at - 1) << (16 - bits) | (size - 3)))
            position += size
        else:
            tokens.append(text[position : position + 1])
            position += 1
    packed = b""
    for start in range(0, len(tokens), 8):
        group = tokens[start : start + 8]
        packed += bytes([sum(1 << n for n, token in enumerate(group) if len(token) == 2)]) + b"".join(group)
    return b"\x01" + struct.pack("<H", 0xB000 | (len(packed) + 2 - 3)) + packed


def vba(source, prefix="", pack=compressed):
    """The streams of a VBA project with one module; in a Word document ``prefix`` is ``Macros/``."""
    module = b'Attribute VB_Name = "Module1"\r\n' + source
    packed = pack(module)

    def record(kind, data):
        return struct.pack("<HI", kind, len(data)) + data

    directory = b"".join(
        [
            record(1, struct.pack("<I", 1)),
            record(2, struct.pack("<I", 0x409)),
            record(0x14, struct.pack("<I", 0x409)),
            record(3, struct.pack("<H", 1252)),
            record(4, b"VBAProject"),
            record(5, b""),
            record(0x40, b""),
            record(6, b""),
            record(0x3D, b""),
            record(7, struct.pack("<I", 0)),
            record(8, struct.pack("<I", 0)),
            struct.pack("<HIIH", 9, 4, 1, 1),
            record(0xC, b""),
            record(0x3C, b""),
            record(0xF, struct.pack("<H", 1)),
            record(0x13, struct.pack("<H", 0xFFFF)),
            record(0x19, b"Module1"),
            record(0x47, "Module1".encode("utf-16-le")),
            record(0x1A, b"Module1"),
            record(0x32, "Module1".encode("utf-16-le")),
            record(0x1C, b""),
            record(0x48, b""),
            record(0x31, struct.pack("<I", 0)),
            record(0x1E, struct.pack("<I", 0)),
            record(0x2C, struct.pack("<H", 0xFFFF)),
            record(0x21, b""),
            record(0x2B, b""),
            record(0x10, b""),
        ]
    )
    streams = {
        "PROJECT": b'ID="{0}"\r\nModule=Module1\r\nName="VBAProject"\r\n',
        "VBA/_VBA_PROJECT": b"\xcc\x61\xff\xff\0\0\0",
        "VBA/dir": compressed(directory),
        "VBA/Module1": packed,
    }
    return {prefix + path: content for path, content in streams.items()}


def zipped(name, content):
    """A zip file with one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()
