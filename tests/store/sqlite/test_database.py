"""Connections: none outlives the database object, or the file that it was opened for."""

import sqlite3

import pytest
from gatepost.store import StoreUnavailable
from gatepost.store.sqlite.database import Database


@pytest.fixture
def database(settings, tmp_path):
    Database.create(settings, tmp_path).close()
    opened = Database.existing(settings, tmp_path)
    yield opened
    opened.close()


def is_open(connection):
    try:
        connection.execute("SELECT 1").close()
    except sqlite3.ProgrammingError:
        return False
    return True


def driver_connection(connection):
    return connection.connection.driver_connection


@pytest.mark.parametrize("end", [Database.close, Database.reconnect, Database.start_checkpoints])
def test_a_connection_in_use_is_closed_when_it_is_returned(database, end):
    with database.read() as first, database.read() as second:
        used = [driver_connection(first), driver_connection(second)]
        end(database)
        assert all(map(is_open, used))
    assert not any(map(is_open, used))


def test_a_connection_that_is_returned_is_used_again(database):
    with database.read() as connection:
        used = driver_connection(connection)
    with database.read() as connection:
        assert driver_connection(connection) is used


def test_a_closed_database_opens_no_connection(database):
    """Threads of requests that were cancelled may still look at it."""
    database.changes()
    database.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        database.changes()
    with pytest.raises(StoreUnavailable, match="is closed"), database.read():
        pass


def test_a_database_can_be_read_after_its_connections_were_renewed(database):
    database.reconnect()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
