"""The generated password of a web desk for which the settings name none, in a file beside the store."""

import logging
import os
import secrets
from pathlib import Path

from gatepost.config import LoadedConfig
from gatepost.config.fields import store_file

__all__ = ["desk_password", "desk_password_file"]

log = logging.getLogger("gatepost")

_PASSWORD_BYTES = 18
"""Random bytes; 24 characters."""
_LONGEST = 1024


def desk_password_file(loaded: LoadedConfig) -> Path:
    """The file with the generated password."""
    store = loaded.base.absolute() / store_file(loaded.config.store.url)
    return store.with_name(f"{store.name}-desk-password")


def desk_password(loaded: LoadedConfig) -> str:
    """The generated password; made, and logged this one time, if there is none. Raises OSError."""
    path = desk_password_file(loaded)
    if found := _read(path):
        return found
    made = secrets.token_urlsafe(_PASSWORD_BYTES)
    new = path.with_name(f"{path.name}-new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - of a descriptor
        file.write(f"{made}\n")
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    log.warning("the web desk has a new password: %s (in %s, which only its owner can read)", made, path)
    return made


def _read(path: Path) -> str:
    """The password in the file; empty if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return ""
    with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
            log.warning("%s could be read by other users: it holds the web desk's password; corrected", path)
        return file.readline(_LONGEST).strip()
