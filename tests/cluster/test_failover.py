"""The primary is lost amid a commit: what was acknowledged is on the standby, and nothing is twice.

Processes of PostgreSQL are stopped for a while, so that each step of a commit is the last one before the end.
"""

import contextlib
import signal
import smtplib
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg
import pytest
from cluster_mail import Load, account, longest_gap
from cluster_servers import PATIENCE_SECONDS, wait_until
from gatepost.store.postgresql.driver import Lock, Place, lock

MESSAGE = "Subject: {token}\r\n\r\nend of {token}\r\n"
FAILOVERS = 2
pytestmark = [
    pytest.mark.long,
    pytest.mark.real("postgres", "haproxy", "redis-server", "smtp-sink", "ip", "iptables"),
]


def send(token):
    """The reply to the end of data of a message that is quarantined."""
    with smtplib.SMTP("127.0.0.1", 25, "client.example.org", timeout=120) as client:
        client.ehlo()
        client.mail(f"{token}@example.org")
        client.rcpt("kept@example.com")
        return client.data(MESSAGE.format(token=token))[0]


def processes(server, title):
    """Those of a PostgreSQL server with this in their title."""
    return [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if title in " ".join(child.cmdline())
    ]


def held(cluster):
    """The senders of what is in the quarantine, in the order of the commits."""
    rows = cluster.databases.primary.ask("SELECT mail_from FROM kept ORDER BY number", database="mail")
    return [sender for (sender,) in rows]


def waits_for_standby(cluster):
    """The processes whose commit of a message is on the primary's disk, and waits for that of the standby."""
    rows = cluster.databases.primary.ask(
        "SELECT pid FROM pg_stat_activity JOIN pg_locks USING (pid)"
        " WHERE wait_event = 'SyncRep' AND locktype = 'advisory' AND objid = %s AND granted",
        Lock.WRITE,
    )
    return [psutil.Process(pid) for (pid,) in rows]


def test_a_commit_that_was_not_answered_is_looked_for_on_the_new_primary(start_cluster):
    cluster = start_cluster(2)
    assert send("before") == 250
    the_primary_is_lost_amid_a_commit(cluster, "missing", reaches_standby=False)
    cluster.databases.follow()
    the_primary_is_lost_amid_a_commit(cluster, "copied", reaches_standby=True)
    found = [f"{token}@example.org" for token in ("before", "missing", "copied")]
    assert held(cluster) == found


def the_primary_is_lost_amid_a_commit(cluster, token, *, reaches_standby):
    """The commit is on the primary's disk, and perhaps on the standby's, and the node was not told."""
    databases = cluster.databases
    (receiver,) = processes(databases.standby, "walreceiver")
    with ThreadPoolExecutor(1) as thread:
        receiver.suspend()
        sent = thread.submit(send, token)
        wait_until(lambda: waits_for_standby(cluster), "the commit waits for the standby")
        assert not sent.done(), "250 before the commit is on both"
        if reaches_standby:
            backends = waits_for_standby(cluster)
            for backend in backends:
                backend.suspend()
            written = databases.primary.ask("SELECT pg_current_wal_flush_lsn()")
            receiver.resume()
            wait_until(
                lambda: databases.standby.ask("SELECT pg_last_wal_receive_lsn()") >= written,
                "the standby has the commit",
            )
            databases.primary.process.send_signal(signal.SIGQUIT)
            for backend in backends:
                backend.kill()
        else:
            databases.primary.stop(signal.SIGQUIT)
            receiver.resume()
        assert not sent.done()
        databases.fail_over()
        assert sent.result() == 250


def test_a_message_that_is_released_while_the_primary_is_lost_is_sent_once_and_noted(start_cluster):
    cluster = start_cluster(2)
    databases = cluster.databases
    assert send("held") == 250
    first, second = cluster.nodes
    (message,) = first.listed("/quarantine", "messages")
    path = f"/quarantine/{message['id']}/release"
    cluster.sink.kill()
    cluster.sink.command[1:1] = ["-w", "3"]  # seconds until it answers DATA
    cluster.sink.start()
    with ThreadPoolExecutor(1) as thread:
        released = thread.submit(first.api, path, "POST", {})
        wait_until(lambda: [*cluster.sink.folder.glob("message.*")], "the delivery has begun")
        databases.primary.stop(signal.SIGQUIT)
        wait_until(cluster.sunk, "the message is sent")
        databases.fail_over()
        status, answer = released.result()
    assert status == 200, answer
    assert second.api(path, "POST", {})[0] == 409
    assert [sunk.token for sunk in cluster.sunk()] == ["held"]


def test_what_a_restarted_primary_has_is_acknowledged_when_the_standby_has_it_too(start_cluster):
    """PostgreSQL ends the wait for a standby at its restart, and shows what was committed without it."""
    cluster = start_cluster(1)
    databases = cluster.databases
    assert send("before") == 250
    with ThreadPoolExecutor(1) as thread:
        databases.standby.stop()
        sent = thread.submit(send, "during")
        wait_until(lambda: waits_for_standby(cluster), "the commit waits for the standby")
        databases.restart(signal.SIGQUIT)
        wait_until(
            lambda: sent.done() or (len(held(cluster)) == 2 and waits_for_standby(cluster)),
            "it is found, and waited for",
        )
        assert not sent.done(), f"{sent.result()} before the commit is on both"
        time.sleep(1)
        assert not sent.done(), "250 before the commit is on both"
        databases.standby.start()
        assert sent.result() == 250
    databases.fail_over()
    assert held(cluster) == ["before@example.org", "during@example.org"]


def test_a_node_that_vanishes_with_a_lock_holds_the_others_up_for_seconds(start_cluster):
    """Its transaction is half sent: the server waits for the rest, and every node waits for the server."""
    cluster = start_cluster(2)
    vanishing = Place(cluster.databases.url(2), lambda: None).connect(autocommit=True)
    with contextlib.suppress(psycopg.OperationalError), vanishing.pipeline():
        vanishing.execute("BEGIN")
        assert vanishing.execute(lock(Lock.WRITE)).fetchone()
        with cluster.cut_off(cluster.nodes[1]):
            began = time.monotonic()
            assert send("meanwhile") == 250
            assert time.monotonic() - began < PATIENCE_SECONDS / 2
    vanishing.close()


def test_of_all_that_was_acknowledged_until_the_primary_ended_nothing_is_lost(start_cluster, tmp_path):
    cluster = start_cluster(2)
    gaps = []
    with Load(clients=6, ends=["quarantined"]) as load:
        for turn in range(FAILOVERS):
            if turn:
                cluster.databases.follow()
            load.reaches(load.accepted + 100)
            began = time.monotonic()
            cluster.databases.fail_over()
            load.reaches(load.accepted + 50)
            gaps.append(longest_gap(load.attempts, "quarantined", began, time.monotonic()))
    wait_until(lambda: not account(cluster, load.attempts).faults, "what was refused is withdrawn")
    found = account(cluster, load.attempts)
    assert (found.faults, found.unrecorded) == ([], [])
    assert all(attempt.is_accepted for attempt in load.attempts), "a client waits, and is not refused"
    report = ", ".join(f"{gap:.2f}" for gap in gaps)
    (tmp_path / "report").write_text(f"seconds in which nothing could be quarantined: {report}\n")
    assert max(gaps) < 60
