"""From errors to words and an exit status."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["FAILED", "USAGE", "exits"]

FAILED = 1
"""The operation failed."""
USAGE = 2
"""Wrong usage or settings."""


@contextmanager
def exits() -> Iterator[None]:
    """Print what went wrong to standard error and exit: 2 for settings, 1 for the world."""
    from gatepost.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import
    from gatepost.store import StoreError  # noqa: PLC0415 - so is SQLAlchemy

    try:
        yield
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE) from None
    except StoreError as error:
        print(f"gatepost: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        raise  # whoever reads has seen enough; typer ends quietly
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        print(f"gatepost: {file}{error.strerror or error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
