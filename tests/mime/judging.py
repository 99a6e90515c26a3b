"""What other mail readers show of a message, beside what Gatepost's reader shows of it.

    python tests/mime/judging.py FILE ...                  each message, all readers side by side
    python tests/mime/judging.py --generated NUMBER ...    the same for generated messages
    python tests/mime/judging.py --smallest FILE ...       only the lines that a difference needs

Each reader is a program in judges/, started once. It reads messages on standard input, each behind its
length in 4 octets, and answers with one line of JSON: texts, and attachments with names, type and octets.
"""

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gatepost.mime import read_message
from gatepost.mime.html import plain_text

JUDGES = Path(__file__).with_name("judges")
ANSWER_SECONDS = 60
"""A reader that takes longer over one message has no opinion of it."""
_WORD = re.compile(r"[\w\ufffd\x80-\x9f]+")
_DAMAGED = re.compile(r"[\ufffd\x80-\x9f]")
_STRUCTURE = re.compile(r"^(?:content-[a-z-]+|mime-version)[ \t]*:", re.MULTILINE | re.IGNORECASE)
_FIELD = re.compile(rb"(?!content-|--)[!-9;-~]+:", re.IGNORECASE)
_SOURCE = re.compile(r"\s|--|\S+\s*:|[A-Za-z0-9+/=!-]+\s*$|.*=([0-9A-Fa-f]{2}|\s*$)|begin |end\b")
_UU_DIGITS = "".join(map(chr, range(32, 97))) + "\r"
_SHOWN = ("text/", "message/")
_ALIVE = b"Subject: here\r\n\r\nhere\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One attachment as a reader shows it."""

    names: tuple[str, ...]
    content_type: str
    octets: bytes | None
    """None for a message in the message, whose own parts are shown instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one reader shows of one message."""

    texts: tuple[str, ...]
    attachments: tuple[Shown, ...]
    error: str = ""
    """What the reader could not read; the rest counts."""

    @property
    def names(self) -> frozenset[str]:
        """The attachments' names, without what is no difference to a person."""
        return frozenset(filter(None, (same_name(name) for part in self.attachments for name in part.names)))

    @property
    def words(self) -> frozenset[str]:
        """The words of all texts and subjects, but for the source of parts that the reader has not seen."""
        return frozenset(word for text in self.texts for word in words_of(without_source(text)))

    @property
    def octets(self) -> frozenset[bytes]:
        """The attachments' contents, but for texts and messages without a name: of these the words count."""
        files = (part for part in self.attachments if part.names or not part.content_type.startswith(_SHOWN))
        contents = (same_octets(part.octets or b"") for part in files)
        return frozenset(octets for octets in contents if octets and not _is_source(octets))


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What at least two readers show and ours does not."""

    kind: str
    """``name``, ``word`` or ``octets``."""
    value: str
    """Of octets their beginning and their digest."""
    readers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.value!r}: {', '.join(self.readers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A mail reader that somebody else wrote."""

    name: str
    command: tuple[str, ...]
    package: str
    """What has to be installed for it."""


READERS = (
    Judge(name="mailparser", command=("node", "mailparser.mjs"), package="npm install in tests"),
    Judge(name="postal-mime", command=("node", "postal_mime.mjs"), package="npm install in tests"),
    Judge(name="python", command=(sys.executable, "python_email.py"), package="python3"),
    Judge(name="gmime", command=("/usr/bin/python3", "gmime.py"), package="gir1.2-gmime-3.0 python3-gi"),
    Judge(name="ruby", command=("ruby", "mail.rb"), package="ruby-mail"),
    Judge(name="perl", command=("perl", "mime_parser.pl"), package="libmime-tools-perl"),
)


class Bench:
    """The readers that are installed, each in a process of its own, until it is closed."""

    def __init__(self, judges: Iterable[Judge] = READERS) -> None:
        found = [_Running(judge) for judge in judges]
        with ThreadPoolExecutor(len(found)) as pool:
            alive = list(pool.map(lambda running: running.ask(_ALIVE) is not None, found))
        self.absent = tuple(
            running.judge for running, is_alive in zip(found, alive, strict=True) if not is_alive
        )
        self._running = [running for running, is_alive in zip(found, alive, strict=True) if is_alive]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the readers that are installed."""
        return tuple(running.judge.name for running in self._running)

    def ask(self, messages: Iterable[bytes]) -> list[dict[str, Opinion]]:
        """The opinions of each message, by reader; those that have none of it are left out."""
        asked = list(messages)
        with ThreadPoolExecutor(max(len(self._running), 1)) as pool:
            answers = list(
                pool.map(lambda running: [running.ask(message) for message in asked], self._running)
            )
        return [
            {
                name: answer[number]
                for name, answer in zip(self.names, answers, strict=True)
                if answer[number] is not None
            }
            for number in range(len(asked))
        ]

    def close(self) -> None:
        for running in self._running:
            running.stop()


class _Running:
    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, message: bytes) -> Opinion | None:
        process = self._start()
        if process is None:
            return None
        timer = threading.Timer(ANSWER_SECONDS, process.kill)
        timer.start()
        try:
            process.stdin.write(len(message).to_bytes(4, "big") + message)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            self.stop()
            return None
        return _opinion(json.loads(line))

    def _start(self) -> subprocess.Popen[bytes] | None:
        program = shutil.which(self.judge.command[0])
        if program is None:
            return None
        if self._process is None:
            self._process = subprocess.Popen(
                (program, *self.judge.command[1:]),
                cwd=JUDGES,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _opinion(answer: dict) -> Opinion | None:
    if "texts" not in answer:
        return None
    return Opinion(
        texts=tuple(answer["texts"]),
        attachments=tuple(
            Shown(
                names=tuple(part["names"]),
                content_type=part["type"],
                octets=None if part["octets"] is None else base64.b64decode(part["octets"]),
            )
            for part in answer["attachments"]
        ),
        error=answer.get("error") or "",
    )


def ours(message: bytes) -> Opinion:
    """What Gatepost's reader shows: also HTML without its markup, as filters look at it."""
    view = read_message(message)
    texts = [header.value for header in view.headers if header.name.lower() == "subject"]
    texts += [f"{header.name}: {header.value}" for header in view.forwarded_headers]
    for text in view.texts:
        texts.append(text.text)
        if text.content_type == "text/html":
            texts.append(plain_text(text.text))
    texts += [text.replace("\ufffd", " ") for text in texts]  # where a word ends for a filter
    return Opinion(
        texts=tuple(texts),
        attachments=tuple(
            Shown(
                names=part.filenames,
                content_type=part.content_type,
                octets=part.read(),
            )
            for part in view.attachments
        ),
    )


def words_of(text: str) -> frozenset[str]:
    """The words of a text, compatible characters and cases folded; none that is damaged."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return frozenset(word for word in found if not _DAMAGED.search(word))


def without_source(text: str) -> str:
    """A text without the delimiters, fields and encoded lines of parts, where it has them."""
    if not _STRUCTURE.search(text):
        return text
    return "\n".join(line for line in text.split("\n") if not _SOURCE.match(line) and not _is_uuencoded(line))


def _is_source(octets: bytes) -> bool:
    """True for the parts of a multipart, or one with some of its fields, that a reader takes for a file."""
    return bool(_STRUCTURE.search(octets.decode("latin-1"))) and not _FIELD.match(octets)


def _is_uuencoded(line: str) -> bool:
    return (
        bool(line)
        and not line[1:].strip(_UU_DIGITS)
        and len(line.rstrip()) == 1 + (ord(line[0]) - 30) // 3 * 4
    )


def same_name(name: str) -> str:
    """A file name without its folders; white space, quotes and the form of characters make no difference."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    return re.sub("\ufffd+", "\ufffd", " ".join(last.strip('"').split()))


def same_octets(octets: bytes) -> bytes:
    """Contents without what readers differ in: the form of line breaks, blanks before them, and the end's."""
    return re.sub(rb"[ \t]*\r?\n", b"\n", octets).rstrip()


def missing(shown: Opinion, opinions: dict[str, Opinion]) -> list[Missing]:
    """What at least two opinions have and ``shown`` has not."""
    contents = shown.octets
    return [
        Missing(kind=kind, value=describe(value), readers=readers)
        for kind, values_of, has, describe in (
            ("name", lambda opinion: opinion.names, shown.names.__contains__, str),
            ("word", lambda opinion: opinion.words, shown.words.__contains__, str),
            ("octets", lambda opinion: opinion.octets, lambda octets: _is_held(octets, contents), _digest),
        )
        for value, readers in _agreed(opinions, values_of)
        if not has(value)
    ]


def _agreed(
    opinions: dict[str, Opinion], values_of: Callable[[Opinion], frozenset]
) -> Iterator[tuple[object, tuple[str, ...]]]:
    readers = defaultdict(list)
    for name, opinion in opinions.items():
        for value in values_of(opinion):
            readers[value].append(name)
    for value in sorted(readers):
        if len(readers[value]) > 1:
            yield value, tuple(readers[value])


def _is_held(octets: bytes, contents: frozenset[bytes]) -> bool:
    return octets in contents or any(octets in content for content in contents)


def _digest(octets: bytes) -> str:
    return f"{octets[:30]!r} ({len(octets)} octets, sha256 {hashlib.sha256(octets).hexdigest()[:16]})"


def smallest(message: bytes, is_enough: Callable[[bytes], bool]) -> bytes:
    """The message with as few lines as are still enough."""
    lines = message.splitlines(keepends=True)
    size = max(len(lines) // 2, 1)
    while True:
        position, shorter = 0, False
        while position < len(lines):
            fewer = lines[:position] + lines[position + size :]
            if is_enough(b"".join(fewer)):
                lines, shorter = fewer, True
            else:
                position += size
        if size == 1 and not shorter:
            return b"".join(lines)
        size = max(size // 2, 1)


def table(message: bytes, opinions: dict[str, Opinion]) -> str:
    """All readers side by side, and what is missing from ours."""
    shown = ours(message)
    lines = []
    for name, opinion in {"gatepost": shown, **opinions}.items():
        lines.append(f"{name}{f'  [{opinion.error}]' if opinion.error else ''}")
        lines += [f"    text        {text[:300]!r}" for text in opinion.texts if text]
        for part in opinion.attachments:
            octets = "" if part.octets is None else f" {len(part.octets)} octets {part.octets[:40]!r}"
            lines.append(f"    attachment  {' | '.join(part.names)!r} {part.content_type}{octets}")
    found = missing(shown, opinions)
    lines += ["missing from ours:", *(f"    {one}" for one in found)] if found else ["nothing is missing"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generated", action="store_true", help="the messages are numbers")
    parser.add_argument("--smallest", action="store_true", help="shorten them while something is missing")
    parser.add_argument("messages", nargs="+")
    arguments = parser.parse_args()
    bench = Bench()
    for judge in bench.absent:
        print(f"{judge.name} is not installed: {judge.package}")
    for name in arguments.messages:
        message = generated(int(name)).content if arguments.generated else Path(name).read_bytes()
        if arguments.smallest:
            wanted = {one.kind for one in missing(ours(message), bench.ask([message])[0])}
            if wanted:
                message = smallest(
                    message,
                    lambda fewer, wanted=wanted: (
                        wanted <= {one.kind for one in missing(ours(fewer), bench.ask([fewer])[0])}
                    ),
                )
            print(message.decode("latin-1"))
        print(f"--- {name}\n{table(message, bench.ask([message])[0])}")
    bench.close()


if __name__ == "__main__":
    from generating import generated

    main()
