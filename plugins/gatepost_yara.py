"""The filter ``yara``: YARA rules over the message, its decoded texts and attachments, and archive members.

    - name: patterns
      filter: yara
      with: {rules: [yara/]}

Needs the extra ``yara`` (yara-x). It holds Python's global lock while it scans, so that this filter runs in
processes of its own (``isolation``).
"""

import importlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from gatepost import Match, Passed, Place, Transaction, Verdict, hookimpl
from gatepost_files import File, NotReadError, look_at_files, oletools, printable

__all__ = ["Yara"]

_SHIPPED = Path(__file__).with_name("gatepost_yara.yar")
_SUFFIXES = (".yar", ".yara")
_SCAN_SECONDS = 30
"""For one file; the rule's `timeout` ends all of them earlier."""
_FILES_SECONDS = 30.0
"""Processor time for all files of a message."""
_MATCHES_LIMIT = 20
_NAMES_LIMIT = 8
_MISTAKES_LIMIT = 5
_GLOBALS: dict[str, str | bool] = {
    "filename": "",
    "filepath": "",
    "extension": "",
    "filetype": "",
    "owner": "",
    "in_archive": False,
    "vba": False,
}
"""External variables with their default; all but the last two are what public collections of rules use."""
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How a compound file begins, in which VBA is (MS-CFB)."""


@dataclass(kw_only=True, eq=False)
class Yara:
    """A hit for each message in which a rule matches, unless the rule is private or ignored."""

    isolation: ClassVar[str] = "process"
    place: Place
    """For the log."""
    rules: list[Path] = field(default_factory=list)
    """Files, and folders with files named ``*.yar`` or ``*.yara``."""
    shipped: bool = True
    """Use the rules that come with Gatepost too."""
    ignore: list[str] = field(default_factory=list)
    """Names of rules that are no hit."""
    unscanned: Literal["hit", "pass"] = "hit"
    """What a file in an archive is that cannot be unpacked, unless it is encrypted."""

    def __post_init__(self) -> None:
        try:
            self._yara: Any = importlib.import_module("yara_x")
        except ImportError:
            raise ValueError("yara_x is not installed, expected: pip install 'gatepost[yara]'") from None
        files = [*_files(self.rules), *([_SHIPPED] if self.shipped else [])]
        if not files:
            raise ValueError("no rules: expected rules, or shipped: true")
        self._compiled = self._compile(files)
        self._ignored = frozenset(self.ignore)
        if unknown := sorted(self._ignored - {one.identifier for one in self._compiled}):
            self.place.logger.warning("ignore: no rule is named %s", ", ".join(unknown))

    def _compile(self, files: list[Path]) -> Any:
        """The rules of all files; raises ValueError with the file and line of each mistake."""
        compiled, mistakes = self._compiled_or_mistakes(files)
        if mistakes:
            more = len(mistakes) - _MISTAKES_LIMIT
            text = "; ".join(mistakes[:_MISTAKES_LIMIT])
            raise ValueError(f"{text}{f'; and {more} more' if more > 0 else ''}")
        return compiled

    def _compiled_or_mistakes(self, files: list[Path]) -> tuple[Any, list[str]]:
        """Raises nothing: a traceback would keep the compiler, which only this thread may free."""
        compiler = self._yara.Compiler()
        compiler.enable_includes(False)  # noqa: FBT003 - it has no name
        for name, value in _GLOBALS.items():
            compiler.define_global(name, value)
        mistakes: list[str] = []
        for file in files:
            compiler.new_namespace(str(file))
            try:
                compiler.add_source(file.read_text("utf-8"), origin=str(file))
            except self._yara.CompileError:
                pass  # all of them are in `errors`
            except (OSError, UnicodeDecodeError) as error:
                mistakes.append(f"{file}: {error}")
        mistakes += [f"{_place(one)}: {one['title']}" for one in compiler.errors()]
        return (None if mistakes else compiler.build()), mistakes

    @hookimpl
    def filter_message(self, transaction: Transaction) -> Verdict | Passed | None:
        """Scan the message; raises what yara_x raises if a scan fails or takes too long."""
        found: dict[tuple[str, str], Match] = {}
        message = transaction.message
        with closing(_Scanner(self._yara.Scanner(self._compiled))) as scanner:

            def look(file: File) -> None:
                for content, is_vba in ((file.content, False), *((one, True) for one in _vba(file.content))):
                    for name in _variants(file.names):
                        for rule in scanner.matching(replace(file, content=content), name, vba=is_vba):
                            if rule.identifier not in self._ignored:
                                match = Match(where=file.where, text=_described(rule))
                                found.setdefault((file.where, rule.identifier), match)

            look(File(where="message", names=(), content=message.content, in_archive=False))
            left_out = look_at_files(message, look, seconds=_FILES_SECONDS)
        if found:
            (where, rule), *others = found
            more = f" and {len(others)} more" if others else ""
            matches = tuple(found.values())[:_MATCHES_LIMIT]
            return Verdict(reason=f"YARA rule {rule} in {where}{more}", matches=matches)
        if message.view.unread:
            raise NotReadError(message.view.unread)
        if left_out.unscanned and self.unscanned == "hit":
            return Verdict(reason=f"not scanned: {left_out.unscanned}")
        why = left_out.unscanned or left_out.encrypted
        return Passed(reason=f"not scanned: {why}") if why else None


class _Scanner:
    """yara_x's, which only the thread that made it may free: `close` does, even if a traceback keeps this."""

    def __init__(self, scanner: Any) -> None:
        self._scanner = scanner
        scanner.set_timeout(_SCAN_SECONDS)

    def matching(self, file: File, name: str, *, vba: bool) -> tuple[Any, ...]:
        """The rules that match a file under a name; raises what yara_x raises."""
        known = {**_GLOBALS, "filename": name, "filepath": name, "extension": _extension(name)}
        for key, value in {**known, "in_archive": file.in_archive, "vba": vba}.items():
            self._scanner.set_global(key, value)
        return tuple(self._scanner.scan(file.content).matching_rules)

    def close(self) -> None:
        """Free it."""
        self._scanner = None


def _files(paths: list[Path]) -> Iterator[Path]:
    """The files of the paths, those of a folder in the order of their names; raises ValueError."""
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
            if not inside:
                raise ValueError(f"rules: no *.yar or *.yara in {path}")
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise ValueError(f"rules: there is no {path}, expected a file or folder")


def _place(mistake: dict[str, Any]) -> str:
    """File, line and column of a mistake."""
    origin = next(
        (one["code_origin"] for one in mistake.get("labels", ()) if one.get("code_origin")), "rules"
    )
    return f"{origin}:{mistake['line']}:{mistake['column']}"


def _vba(content: bytes) -> Iterator[bytes]:
    """The source of each macro in a compound file, decompressed; none without oletools."""
    if not content.startswith(_COMPOUND):
        return
    try:
        olevba = oletools("olevba")
        parser = olevba.VBA_Parser("file", data=content)
        for *_, source in parser.extract_macros():
            yield source if isinstance(source, bytes) else source.encode("utf-8", "replace")
    except Exception:  # noqa: BLE001 - not installed, or no VBA that it can read: the file itself is scanned
        return


def _variants(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names to scan under: readers may show any of them. Once without a name if there is none."""
    plain = [name.rpartition("/")[2].rpartition("\\")[2] for name in names[:_NAMES_LIMIT]]
    return tuple(dict.fromkeys(name.encode("utf-8", "replace").decode() for name in plain)) or ("",)


def _extension(name: str) -> str:
    """As YARA's collections have it: in lower case, with its dot, without dots and spaces behind it."""
    stem, dot, extension = name.partition("\0")[0].rstrip(". ").rpartition(".")
    return f".{extension.lower()}" if dot and stem else ""


def _described(rule: Any) -> str:
    """Its name, and what it says of itself."""
    description = next((value for key, value in rule.metadata if key == "description"), "")
    text = description.decode("utf-8", "replace") if isinstance(description, bytes) else str(description)
    return f"{rule.identifier}: {printable(text)}" if text else rule.identifier
