"""Messages of a benchmark, no two alike: clamd remembers content that it has found clean."""

import random
import secrets
from collections.abc import Iterator

HEADER = """\
From: Sender <sender@example.org>\r
To: Recipient <recipient@example.com>\r
Date: Sun, 29 Nov 2026 12:00:00 +0000\r
Message-Id: <{number}.{run}@client.example>\r
Subject: timed {number}\r
\r
"""
LINE_WORDS = 11
SHIFTS = 997
"""Lines of text beyond one message, so that its body begins at another line each time."""


def unique_messages(octets: int) -> Iterator[bytes]:
    """Text messages of about that many octets without end; no line begins with a dot."""
    chance = random.Random(18)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(2000)]
    text, lines = bytearray(), [0]
    while len(lines) < SHIFTS or len(text) < lines[SHIFTS - 1] + octets:
        text += " ".join(chance.choices(words, k=LINE_WORDS)).encode() + b"\r\n"
        lines.append(len(text))
    run, number = secrets.token_hex(8), 0
    while True:
        begin = lines[number % SHIFTS]
        number += 1
        head = f"{HEADER.format(number=number, run=run)}{run} {number}\r\n".encode()
        yield head + text[begin : begin + max(octets - len(head) - 2, 0)].rstrip(b"\r\n") + b"\r\n"
