"""A real PostgreSQL server for tests: started in a folder of its own, stopped and restarted by them."""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from gatepost.config.store import StoreSettings
from gatepost.store.postgresql.database import Database

EMPTY = (
    "DELETE FROM transactions; DELETE FROM kept; DELETE FROM sessions; DELETE FROM live_batches;"
    " DELETE FROM live_watchers; DELETE FROM desk_sessions; DELETE FROM positions;"
    " ALTER SEQUENCE kept_number_seq RESTART"
)


class PostgresServer:
    """A PostgreSQL server on a Unix socket in a folder of its own; root starts it as another user."""

    def __init__(self, *options):
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-", dir="/tmp"))
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self.user = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.options = options
        self.clean = None
        self.names = (f"t{number}" for number in itertools.count())
        command = [self.bin / "initdb", "-D", self.folder / "data", "-U", "gatepost", "--auth=trust"]
        self.run(*command, "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions")
        self.start()
        self.execute("CREATE EXTENSION pg_trgm")

    def run(self, *command):
        subprocess.run(
            [*self.user, *command], cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=120
        )

    def start(self):
        settings = [
            "listen_addresses=",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
            "jit=off",
        ]
        settings += [f"unix_socket_directories={self.folder}", *self.options]
        command = [self.bin / "postgres", "-D", self.folder / "data"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*self.user, *command, *(part for one in settings for part in ("-c", one))],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.02)
            else:
                return

    def stop(self, how=signal.SIGINT):
        self.process.send_signal(how)
        self.process.wait(60)

    def url(self, database="postgres", *, user="gatepost", **options):
        rest = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://{user}@/{database}?host={self.folder}{rest}"

    def connect(self, url=None):
        return psycopg.connect(url or self.url())

    def execute(self, statement, *values, **where):
        """All rows of the answer, as tuples."""
        with psycopg.connect(self.url(**where), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def new_schema(self, **where):
        """The URL of an empty schema."""
        name = next(self.names)
        self.execute(f"CREATE SCHEMA {name}", **where)
        return self.url(options=f"-csearch_path%3D{name}", **where)

    def clean_schema(self):
        """The URL of a store that is empty: always the same one, since to make one costs more than a test."""
        if self.clean is None:
            self.clean = self.new_schema()
            Database.create(StoreSettings(url=self.clean)).close()
        with psycopg.connect(self.clean) as connection:
            connection.execute(EMPTY)
        return self.clean

    def close(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)
