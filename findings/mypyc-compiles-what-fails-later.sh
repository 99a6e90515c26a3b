#!/bin/sh
# mypy 2.4.1 (mypyc), CPython 3.11.2; needs a C compiler and Python's headers.
# Typed Python that mypy accepts and that runs: compiled by mypyc without an error or a warning, it fails when it runs.
# - A name that two `except … as error` in one function bind, with different compiled classes, has the class of the
#   first: TypeError where the second is caught, which is often the path that no test takes.
# - A class whose base is a Python class with __slots__: TypeError when the module is imported.
# - An attribute of the name _thread: the generated C code calls it __thread, a keyword, and gcc stops.
# Output: the lines at the end.
set -eu
export LC_ALL=C
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check mypy==2.4.1 setuptools==80.9.0 2>/dev/null
cat >caught.py <<'PY'
class First(Exception):
    pass


class Second(Exception):
    pass


def fail(error: Exception) -> None:
    raise error


def caught() -> str:
    try:
        fail(First())
    except First as error:
        assert error
    try:
        fail(Second())
    except Second as error:
        return type(error).__name__
    return ""
PY
cat >base.py <<'PY'
class Base:
    __slots__ = ("one",)
PY
cat >slots.py <<'PY'
from base import Base


class Derived(Base):
    __slots__ = ("two",)
PY
cat >attribute.py <<'PY'
class Holder:
    def __init__(self) -> None:
        self._thread = None
PY
show() { # what the module does, from the source or compiled
  venv/bin/python - <<PY
try:
    import $1
    print("$1 $2:", $3)
except Exception as error:
    print("$1 $2:", type(error).__name__, str(error)[:60])
PY
}
seen=$(
  show caught source 'caught.caught()'
  venv/bin/mypyc --strict caught.py >compiling 2>&1 || echo "caught does not compile"
  show caught compiled 'caught.caught()'
  show slots source '"imported"'
  venv/bin/mypyc slots.py >compiling 2>&1 || echo "slots does not compile"
  show slots compiled '"imported"'
  show attribute source '"imported"'
  venv/bin/mypyc attribute.py >compiling 2>&1 || echo "attribute: $(grep -o "before '__thread'\|before .__thread." compiling | head -n1 | tr -c 'a-z_ \n' "'")"
)
printf '%s\n' "$seen"
[ "$seen" = "caught source: Second
caught compiled: TypeError caught.First object expected; got caught.Second
slots source: imported
slots compiled: TypeError mypyc classes can't have __slots__
attribute source: imported
attribute: before '__thread'" ]
