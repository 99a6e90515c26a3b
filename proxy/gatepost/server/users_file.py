"""The file of users: a YAML file of names and argon2 hashes."""

import re
from collections.abc import Mapping
from pathlib import Path

import argon2
import yaml

__all__ = ["read_users", "user_line", "with_user"]

_EXPECTED = 'expected lines like  alice: "$argon2id$..."'
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._@+-]*")
_NOT_IN_A_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def read_users(path: Path) -> Mapping[str, str]:
    """Read the hashes by name; raises OSError, or ValueError that names the file."""
    return _users(path.read_bytes(), path)


def _users(text: str | bytes, path: Path) -> Mapping[str, str]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {_EXPECTED}; it is not YAML: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: {_EXPECTED}")
    for name, hashed in content.items():
        try:
            argon2.extract_parameters(hashed)
        except (argon2.exceptions.InvalidHashError, TypeError, AttributeError):
            raise ValueError(f"{path}: {_EXPECTED}; the hash of {name!r} is not an argon2 hash") from None
        if not isinstance(name, str):
            raise ValueError(f"{path}: {_EXPECTED}; the name {name!r} needs quotes")  # noqa: TRY004 - one error for a wrong file
    return content


def user_line(name: str, hashed: str) -> str:
    """A user's line of the file, without its line end; raises ValueError for a name that cannot be one."""
    if not name or _NOT_IN_A_NAME.search(name):
        raise ValueError(f"the name {name!r}, expected text without control characters")
    if not _PLAIN_NAME.fullmatch(name) or yaml.safe_load(name) != name:
        name = yaml.safe_dump(name, default_style='"', allow_unicode=True, width=float("inf")).rstrip("\n")
    return f'{name}: "{hashed}"'


def with_user(text: str, name: str, hashed: str, path: Path) -> tuple[str, bool]:
    """The text of the file with a user's new hash, and whether the user is new; all else stays as written.

    Raises ValueError that names the file if it is not a file of users, or written in a way in which a line
    cannot be changed.
    """
    line = user_line(name, hashed)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {_EXPECTED}; it is not YAML: {error}") from error
    before = _users(text, path) if root else {}
    entry = next((one for one in root.value if one[0].value == name), None) if root else None
    if entry:
        key, old = entry
        end = old.end_mark.index
        end -= text[:end].endswith("\n")  # of a block scalar
        changed = text[: key.start_mark.index] + line + text[end:]
    else:
        indent = root.value[0][0].start_mark.column if root else 0
        line_end = "" if not text or text.endswith("\n") else "\n"
        changed = f"{text}{line_end}{' ' * indent}{line}\n"
    try:
        is_as_wanted = _users(changed, path) == {**before, name: hashed}
    except ValueError:
        is_as_wanted = False
    if not is_as_wanted:
        raise ValueError(f"{path}: this file cannot be changed line by line; write into it yourself:  {line}")
    return changed, entry is None
