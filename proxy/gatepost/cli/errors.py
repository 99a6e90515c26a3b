"""Turn errors into a message and an exit status."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

__all__ = ["FAILED", "USAGE", "cli_errors", "fail"]

FAILED = 1
"""The operation failed."""
USAGE = 2
"""Wrong usage or settings."""


def fail(text: str, status: int = FAILED) -> NoReturn:
    """Print why the command fails, and exit with that status; what the text quotes must be printable."""
    print(f"gatepost: {text}", file=sys.stderr)
    raise typer.Exit(status)


@contextmanager
def cli_errors() -> Iterator[None]:
    """Print an error and exit: status 2 for settings and rights in the database, 1 for anything else."""
    from gatepost.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import
    from gatepost.store import (  # noqa: PLC0415 - likewise
        ConflictError,
        StoreError,
        StoreForbidden,
        StoreUnusable,
    )

    try:
        yield
    except ConfigError as error:
        _print(str(error))
        raise typer.Exit(USAGE) from None
    except (StoreUnusable, StoreForbidden) as error:
        _print(f"gatepost: {error}")
        raise typer.Exit(USAGE) from None
    except (StoreError, ConflictError) as error:
        _print(f"gatepost: {error}")
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        raise  # the reader has closed the pipe; typer exits quietly
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        _print(f"gatepost: {file}{error.strerror or error}")
        raise typer.Exit(FAILED) from None


def _print(text: str) -> None:
    """Print an error; in systemd's journal it has that priority."""
    from gatepost.process.log import with_priority  # noqa: PLC0415 - likewise

    print(with_priority(text, logging.ERROR), file=sys.stderr)
