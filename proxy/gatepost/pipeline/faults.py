"""What makes a filter unusable, in words for the operator and for the filter's author."""

import dis
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

__all__ = ["FOREIGN_FAULT", "FilterError", "described", "is_meant_for_operator", "text_of"]

FOREIGN_FAULT = (Exception, SystemExit)
"""What a filter's own code may raise while it is imported or constructed."""
_OURS = frozenset({"gatepost", "importlib", "pydantic"})
"""Packages whose lines lead to the filter's code, but are no part of it."""
_INSTALLED = tuple(
    {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_RAISE = dis.opmap["RAISE_VARARGS"]


class FilterError(ValueError):
    """The filter cannot be used: what is wrong with it, and what was expected."""

    def __init__(self, what: str, expected: str = "") -> None:
        super().__init__(f"{what}; expected {expected}" if expected else what)
        self.what = what
        self.expected = expected


def described(error: BaseException, base: Path | None = None) -> str:
    """An exception's class and text, and the file and line of the filter's code that led to it.

    Files under ``base`` are shown relative to it.
    """
    text = f"{type(error).__name__}: {text_of(error)}"
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{type(error).__name__}: {error.msg} ({_place(Path(error.filename), error.lineno, base)})"
    lines = _filter_lines(error)
    if not lines:
        return text
    file = _file(lines[-1])
    return f"{text} ({_place(file, lines[-1].tb_lineno, base)}){_import_advice(error, file.parent)}"


def _place(file: Path, line: int, base: Path | None) -> str:
    folder = base.absolute() if base else None
    return f"{file.relative_to(folder) if folder and file.is_relative_to(folder) else file}:{line}"


def is_meant_for_operator(error: BaseException) -> bool:
    """True if a ``raise`` in the filter's own code raised it: its text is about a setting."""
    lines = _filter_lines(error)
    return bool(lines) and lines[-1].tb_next is None and _is_raise(lines[-1])


def text_of(error: BaseException) -> str:
    """What an exception says; its own ``__str__`` may fail."""
    try:
        return str(error)
    except FOREIGN_FAULT:
        return "(its text cannot be shown)"


def _filter_lines(error: BaseException) -> list[TracebackType]:
    """The traceback's entries in the filter's own code, the innermost last.

    That is the first file that is not ours, the files of its folder, and any file that is not installed: a
    library's lines would not tell the author what to mend.
    """
    foreign = [entry for entry in _entries(error) if _is_foreign(entry)]
    if not foreign:
        return []
    folder = _file(foreign[0]).parent
    return [
        entry
        for entry in foreign
        if _file(entry).is_relative_to(folder) or not any(map(_file(entry).is_relative_to, _INSTALLED))
    ]


def _file(entry: TracebackType) -> Path:
    return Path(entry.tb_frame.f_code.co_filename)


def _entries(error: BaseException) -> Iterator[TracebackType]:
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _is_foreign(entry: TracebackType) -> bool:
    module = str(entry.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] not in _OURS and not entry.tb_frame.f_code.co_filename.startswith("<")


def _is_raise(entry: TracebackType) -> bool:
    return entry.tb_frame.f_code.co_code[entry.tb_lasti] == _RAISE


def _import_advice(error: BaseException, folder: Path) -> str:
    """For an import that failed: what to do about the module."""
    if not isinstance(error, ImportError):
        return ""
    name = (error.name or "").partition(".")[0]
    beside = next((one for one in (f"{name}.py", name) if name and (folder / one).exists()), "")
    relative = not name and "relative import" in text_of(error)
    if relative or (isinstance(error, ModuleNotFoundError) and beside):
        what = f"{beside} is beside it, but" if beside else "it is not part of a package, and"
        return (
            f": {what} a filter in a file of its own cannot import the files beside it;"
            " write everything into one file, or install a package"
        )
    if isinstance(error, ModuleNotFoundError):
        return f": it is neither installed in {sys.prefix} nor beside the file"
    return ""
