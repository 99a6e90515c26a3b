"""The driver: how to connect, what a session is set to, and what its errors mean."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, PGconn, Ping
from psycopg.types.string import StrDumperUnknown

from gatepost.config.problems import did_you_mean
from gatepost.printable import storable, without_controls
from gatepost.store.errors import StoreError, StoreForbidden, StoreFull, StoreUnavailable, StoreUnusable
from gatepost.store.node import RunningNode
from gatepost.store.postgresql.namesakes import mark

__all__ = [
    "AWAITED_STANDBYS",
    "LOCK_SECONDS",
    "OTHERS",
    "PATIENT",
    "Lock",
    "LoginFailed",
    "LoginRefused",
    "Place",
    "error_for",
    "lock",
    "session_lock",
    "session_try_lock",
    "session_unlock",
    "try_lock",
    "waits_for_standby",
]

# It warns of what it ignores while it raises an error, which we log, and shows objects of its own
logging.getLogger("psycopg").addFilter(lambda record: record.levelno >= logging.ERROR)

LOCK_SECONDS = 5.0
"""To wait for a lock that another transaction holds."""
_SESSION = """
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed';
SET idle_session_timeout = 0;
SET lock_timeout = '{lock:.0f}ms';
SET idle_in_transaction_session_timeout = '60s';
SET tcp_keepalives_idle = 2;
SET tcp_keepalives_interval = 1;
SET tcp_keepalives_count = 2;
SET tcp_user_timeout = '4s';
SET standard_conforming_strings = on;
SET extra_float_digits = 1;
SELECT set_config('random_page_cost', least(current_setting('random_page_cost')::float8, 1.1)::text, false);
"""
"""Whatever the server has: a commit is on its disk, and on a synchronous standby's, before the answer.

A transaction that has waited for a `Lock` sees what the one before it has committed. With `repeatable read`
it would see the state before it waited: a message that is just being released would be deleted, and one whose
COMMIT was not answered would not be found. No connection ends because it is idle: locks may be held by it.

The server notices after four seconds that a machine is gone or cut off, before others give up to wait for a
lock of it. Else it would wait for the rest of a transaction that was half sent, for hours. A client that is
there, and sends nothing in its transaction, has a minute.

By default the server plans for disks that turn, and does not count what it takes to read a text that is
stored beside its row: it reads all texts and all recipients, where an index has those that are wanted.
"""
_DEFAULTS = {
    "application_name": "gatepost",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""What the URL does not say; a server that is gone is noticed after 20 to 25 seconds."""


AWAITED_STANDBYS = (
    "SELECT current_setting('synchronous_standby_names') FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event = 'SyncRep'"
    " AND state_change < clock_timestamp() - interval '1 second' LIMIT 1"
)
"""SQL that returns the setting if a COMMIT of this role waits for a synchronous standby that does not answer.

It holds its locks meanwhile, so others fail with a timeout that does not say why.
"""


class Lock:
    """The advisory locks of a store, each held until the end of a transaction."""

    WRITE = 1
    """Held by those who change messages: the numbers of messages are in the order of their commits."""
    RETENTION = 2
    TEXTS = 3
    SCHEMA = 4
    """Also held as long as a store is copied, by the connection that reads it."""
    OPEN = 5
    """Shared, and held by each connection until its end: so it is known whether a store is in use."""
    WEBHOOK = 6
    """Held by the desk that reports new messages."""


PATIENT = "SET statement_timeout = 0"
"""SQL for what takes as long as a store is large: a role may have a limit for what people wait for."""

_KEY = "hashtext('gatepost ' || current_schema())"


def lock(number: int) -> str:
    """SQL that waits for a `Lock`."""
    return f"SELECT pg_advisory_xact_lock({_KEY}, {number})"


def session_lock(number: int) -> str:
    """SQL that waits for a `Lock`, which is held until the connection ends."""
    return f"SELECT pg_advisory_lock({_KEY}, {number})"


def session_try_lock(number: int) -> str:
    """SQL that takes a `Lock`, if it is free, until the connection ends, and says so."""
    return f"SELECT pg_try_advisory_lock({_KEY}, {number})"


def session_unlock(number: int) -> str:
    """SQL that ends a `session_lock`."""
    return f"SELECT pg_advisory_unlock({_KEY}, {number})"


def try_lock(number: int) -> str:
    """SQL that takes a `Lock`, if it is free, and says so."""
    return f"SELECT pg_try_advisory_xact_lock({_KEY}, {number})"


_OPEN = f"SELECT pg_try_advisory_lock_shared({_KEY}, {Lock.OPEN})"
OTHERS = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"  # noqa: S608 - of constants
    f" WHERE datname = current_database() AND classid = ({_KEY}::bigint & 4294967295)::oid"
    f" AND objid = {Lock.OPEN} AND locktype = 'advisory' AND granted"
)
"""SQL that counts the connections to the store, but for those of a copy."""


class _StorableDumper(StrDumperUnknown):
    """Text that people look for may hold what no database accepts, as text that is stored may not."""

    def dump(self, obj: str) -> Any:
        return super().dump(storable(obj))


class Place:
    """A database on a server."""

    def __init__(
        self,
        url: str,
        password: Callable[[], str | None],
        *,
        counted: bool = True,
        node: RunningNode | None = None,
    ) -> None:
        """Raises StoreError for a URL that libpq does not understand, without showing it.

        ``password`` reads it for each connection; it may raise OSError and ValueError. ``counted``: the
        connections are among the `OTHERS` of a copy; else they are of one, and `PATIENT`. ``node``: it is
        seen as long as a connection is open.
        """
        try:
            given = conninfo_to_dict(url)
        except (psycopg.ProgrammingError, UnicodeDecodeError) as error:
            raise StoreUnusable(_not_understood(url, str(error))) from None
        if wrong := _wrong_option(given):
            raise StoreUnusable(f"store.url: {wrong}")
        self._password = password
        self._counted = counted
        self._node = node
        # In the encoding of an SQL_ASCII database, or of PGCLIENTENCODING, text would not be text.
        self._conninfo: dict[str, Any] = {**_DEFAULTS, **given, "client_encoding": "UTF8"}
        host = quote(str(given.get("host", "")), safe=":,[]")
        port = f":{given['port']}" if str(given.get("port", "")).strip(",") else ""
        self.name = f"postgresql://{host}{port}/{given.get('dbname', '')}"
        """Without the user and the password."""

    def answers(self) -> bool:
        """True if the server takes connections, though it may refuse this login.

        It may block for seconds, and all threads with it. False also for a server that starts, stops or
        recovers: libpq knows that by the code of the error (SQLSTATE 57P03), which it does not hand out. The
        text may be in any language.
        """
        return PGconn.ping(make_conninfo("", **self._conninfo).encode()) == Ping.OK

    def connect(self, *, autocommit: bool = False, any_text: bool = True) -> psycopg.Connection:
        """Open a connection; raises psycopg.Error.

        ``any_text``: it takes NUL and lone surrogates in parameters, which are replaced.
        """
        try:
            password = self._password()
        except (OSError, ValueError) as error:
            raise psycopg.OperationalError(f"store.password_file: {error}") from error
        given = {**self._conninfo, "password": password} if password else self._conninfo
        connection = psycopg.connect(**given, autocommit=True)
        try:
            connection.execute(
                _SESSION.format(lock=LOCK_SECONDS * 1000) + (_OPEN if self._counted else PATIENT)
            )
            if self._node:
                mark(connection, self._node)
            if any_text:
                connection.adapters.register_dumper(str, _StorableDumper)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection


def _not_understood(url: str, said: str) -> str:
    """Why libpq does not understand a URL, without anything that may be a part of a password."""
    wrong = re.fullmatch(r'invalid URI query parameter: "([a-z_]+)"\s*', said)
    if wrong is None or "@" in url.partition("?")[2]:  # a password with a question mark
        return "store.url is not understood, expected postgresql://USER@HOST:PORT/DATABASE"
    known = [option.keyword.decode() for option in Conninfo.get_defaults()]
    meant = did_you_mean(wrong[1], known)
    return f"store.url: unknown option {wrong[1]!r}{meant}, expected an option of libpq"


def _wrong_option(given: Mapping[str, Any]) -> str:
    """What libpq does not accept of a URL that it has parsed; without a question to any server.

    It looks at ports and options when it connects; so it is asked to connect to sockets that are not there.
    """
    for name in _WHOLE_NUMBERS & given.keys():
        if not re.fullmatch(r"-?[0-9]{1,9}", str(given[name])):
            return f"invalid value {str(given[name])!r} of {name}, expected a whole number"
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    nowhere = {**given, "host": ",".join(_NO_FOLDER for _ in hosts)}
    nowhere.pop("hostaddr", None)
    connection = PGconn.connect_start(make_conninfo("", **nowhere).encode())
    try:
        said = connection.error_message.decode("utf-8", "replace").splitlines()
    finally:
        connection.finish()
    # Of each server that is tried one line, and perhaps an advice that is indented.
    wrong = [line for line in said if _NO_FOLDER not in line and not line.startswith("\t")]
    return without_controls("; ".join(wrong))


_NO_FOLDER = "/no such folder"
_WHOLE_NUMBERS = frozenset(
    {
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
    }
)

_UNAVAILABLE = ("08", "25006", "28", "3D000", "40", "53", "55P03", "57", "58", "XX")
"""Classes and codes of errors that may be over later (PostgreSQL, appendix A)."""
_FULL = "53100"
_NO_RIGHT = "42501"


_ALL = "\nMultiple connection attempts failed. All failures were:\n"
"""Of psycopg, before what happened with each of several servers."""
_SAID_TWICE = re.compile(
    r"^(?:- host: .*?: )?connection (?:failed|is bad): (?=connection to server)", re.MULTILINE
)
_ADVICE = re.compile(r"\n\t(.*)")
_NOTHING_SENT = "failed: fe_sendauth: no password supplied"
_ANSWERED = re.compile(r"failed: \w+:  ")
"""The severity of an error of the server, in its language."""
_REFUSED = re.compile(
    rf"{_NOTHING_SENT}$|failed: \w+:  (?:(?:password|Peer) authentication failed for user "
    r'|(?:role|database) ".*" does not exist$|role ".*" is not permitted to log in$'
    r"|no pg_hba\.conf entry for |pg_hba\.conf rejects |permission denied for database )"
)
"""What does not end by itself. Another text, or one in another language, may be about what does."""


class LoginFailed(StoreUnavailable):
    """The server answered, and did not take the connection; that may end by itself."""


class LoginRefused(StoreUnavailable):
    """The server answers, and refuses this user or database until somebody changes something."""


def error_for(error: BaseException, name: str) -> StoreError:
    """The `StoreError` for an error of the driver; no values, which may be mail, are shown."""
    code = getattr(error, "sqlstate", None)
    diagnosis = getattr(error, "diag", None)
    said = without_controls((diagnosis and diagnosis.message_primary) or _on_one_line(str(error)))
    if code is None:
        if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return StoreError(f"the store {name} cannot be reached: {said}")
        if not _refuses_login(str(error)):
            kind = LoginFailed if _ANSWERED.search(said) else StoreUnavailable
            return kind(f"the store {name} cannot be reached: {said}")
        if said.endswith(_NOTHING_SENT):
            expected = "expected one in a password file, PGPASSWORD or ~/.pgpass"
            return LoginRefused(f"the server of {name} asks for a password, {expected}")
        return LoginRefused(f"the server of {name} refused the login: {said}")
    if code == _FULL:
        return StoreFull(f"the store {name} is full: {said}")
    if code.startswith(_UNAVAILABLE):
        return StoreUnavailable(f"the store {name} is not available: {said} ({code})")
    if code == _NO_RIGHT:
        return StoreForbidden(f"the store {name} lacks a right: {said} ({code})")
    return StoreError(f"the store {name} refused a statement: {said} ({code})")


def waits_for_standby(name: str, standbys: str) -> StoreUnavailable:
    """The error where `AWAITED_STANDBYS` found some."""
    return StoreUnavailable(
        f"commits on the server of {name} wait for a standby that does not answer"
        f" (synchronous_standby_names = {standbys!r})"
    )


def _on_one_line(said: str) -> str:
    """What happened at each server, each time with libpq's advice in parentheses."""
    said = _SAID_TWICE.sub("", said.partition(_ALL)[2] or said)
    return "; ".join(_ADVICE.sub(r" (\1)", said).splitlines())


def _refuses_login(said: str) -> bool:
    """True if each server refuses the login; what counts is the last of its addresses."""
    attempts = (said.partition(_ALL)[2] or said).split("\n- host: ")
    tried = [[line for line in one.splitlines() if "connection to server" in line] for one in attempts]
    return all(lines and _REFUSED.search(lines[-1]) for lines in tried)
