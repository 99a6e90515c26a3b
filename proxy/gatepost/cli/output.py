"""Standard output for a command's own text alone, while it runs the code of filters."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

__all__ = ["own_stdout"]


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Standard output, for the command; until the end whatever else is written there is a standard error.

    That holds for `print` in a filter, for programs that it starts, and for libraries that are not Python.
    """
    stdout = sys.stdout or io.StringIO()  # None: the descriptor is closed
    with ExitStack() as stack:
        stderr = sys.stderr or stack.enter_context(Path(os.devnull).open("w"))
        stack.enter_context(redirect_stdout(stderr))
        try:
            saved = os.dup(stdout.fileno())
        except io.UnsupportedOperation:  # it is not a file: a test collects it
            yield stdout
            return
        stdout.flush()
        with os.fdopen(saved, "w", encoding=stdout.encoding, errors=stdout.errors) as output:
            os.dup2(stderr.fileno(), stdout.fileno())
            try:
                yield output
            finally:
                output.flush()
                stdout.flush()
                os.dup2(output.fileno(), stdout.fileno())
