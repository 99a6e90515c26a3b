"""Nodes, a database with a standby, Redis, HAProxy: whatever fails, what was accepted is there, and once."""

import itertools
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from cluster_mail import FLUSH_SECONDS, Attempt, Load, account, longest_gap
from cluster_nodes import Cluster, Node
from cluster_servers import wait_until

MESSAGES = int(os.environ.get("GATEPOST_CLUSTER_MESSAGES", "3000"))
"""That are accepted at least; the things that happen meanwhile begin anew until then."""
OUTAGE_SECONDS = float(os.environ.get("GATEPOST_CLUSTER_OUTAGE_SECONDS", "3"))
"""For which a node is cut off, or the database is gone. After 20 seconds a node gives its connections up."""
NODES = int(os.environ.get("GATEPOST_CLUSTER_NODES", "2"))
CALM_SECONDS = 0.7
"""Between two things that happen, and before what was ended is started again."""
HAPROXY_SECONDS = 2.5
"""After which HAProxy knows that a node is ready, or that it is not."""
NEEDED = ("postgres", "haproxy", "redis-server", "smtp-sink", "ip", "iptables")
RELEASED = 20


@dataclass(slots=True)
class Trouble:
    """What happens to a cluster under load, one thing after the other."""

    cluster: Cluster
    turns: dict[str, int] = field(default_factory=dict)
    kills: list[float] = field(default_factory=list)
    """When a node was killed, by the monotonic clock."""
    times: list[tuple[str, float, float]] = field(default_factory=list)
    """What happened, when it began, and when all was as before."""

    def node(self, event: str) -> Node:
        """Another one each time."""
        turn = self.turns[event] = self.turns.get(event, -1) + 1
        return self.cluster.nodes[turn % len(self.cluster.nodes)]

    def a_node_is_killed(self) -> None:
        node = self.node("kill")
        node.kill()
        self.kills.append(time.monotonic())
        time.sleep(CALM_SECONDS)
        node.start()

    def the_nodes_are_restarted_one_after_the_other(self) -> None:
        for node in self.cluster.nodes:
            assert node.stop() == 0
            node.start()
            wait_until(node.is_ready, f"{node.name} is ready")
            time.sleep(HAPROXY_SECONDS)

    def the_workers_are_replaced(self) -> None:
        for node in self.cluster.nodes:
            node.replace()

    def the_database_fails_over(self) -> None:
        self.cluster.databases.fail_over()

    def the_standby_is_lost_and_comes_back(self) -> None:
        """Commits wait for it until the primary is told to go on alone."""
        self.cluster.databases.standby.stop()
        time.sleep(CALM_SECONDS)
        self.cluster.databases.primary.runs_alone()
        time.sleep(CALM_SECONDS)
        self.cluster.databases.standby.start()
        self.cluster.databases.wait_for_standby()

    def the_standby_is_made_anew(self) -> None:
        self.cluster.databases.follow()

    def the_database_is_restarted(self) -> None:
        self.cluster.databases.restart()

    def the_database_is_gone_for_a_while(self) -> None:
        """So no node is ready, and HAProxy sends mail to all of them."""
        self.cluster.databases.primary.stop(signal.SIGINT)
        for node in self.cluster.nodes:
            wait_until(lambda node=node: not node.is_ready(), f"{node.name} is not ready")
        time.sleep(OUTAGE_SECONDS)
        self.cluster.databases.primary.start()

    def redis_is_killed(self) -> None:
        self.cluster.redis.kill()
        time.sleep(CALM_SECONDS)
        self.cluster.redis.start()

    def a_node_is_cut_off(self) -> None:
        with self.cluster.cut_off(self.node("cut")):
            time.sleep(OUTAGE_SECONDS)

    def haproxy_is_killed(self) -> None:
        self.cluster.haproxy.kill()
        time.sleep(CALM_SECONDS)
        self.cluster.haproxy.start()

    @property
    def events(self) -> list[Callable[[], None]]:
        return [
            self.a_node_is_killed,
            self.the_database_fails_over,
            self.redis_is_killed,
            self.the_standby_is_made_anew,
            self.the_nodes_are_restarted_one_after_the_other,
            self.a_node_is_cut_off,
            self.the_database_is_restarted,
            self.the_database_is_gone_for_a_while,
            self.the_standby_is_lost_and_comes_back,
            self.haproxy_is_killed,
            self.the_workers_are_replaced,
        ]

    def happens(self, event: Callable[[], None]) -> None:
        began = time.monotonic()
        event()
        for node in self.cluster.nodes:
            wait_until(node.is_ready, f"{node.name} is ready after {event.__name__}")
        if self.cluster.databases.has_standby:
            wait_until(self.cluster.databases.is_safe, "the standby is synchronous")
        time.sleep(CALM_SECONDS)
        self.times.append((event.__name__, began, time.monotonic()))

    def explains(self, attempt: Attempt) -> bool:
        """Whether the record of a message may be missing: its node was killed before it wrote it."""
        return any(killed - FLUSH_SECONDS <= attempt.ended <= killed + 0.5 for killed in self.kills)

    def table(self, attempts: list[Attempt]) -> str:
        """What clients noticed: the longest time without an accepted message, and for one transaction."""
        lines = [f"{'event':<50}{'relayed':>9}{'quarantined':>13}{'slowest':>11}"]
        for name, began, ended in self.times:
            gaps = [longest_gap(attempts, end, began, ended) for end in ("relayed", "quarantined")]
            slowest = max(
                one.ended - one.began for one in attempts if one.began <= ended and one.ended >= began
            )
            lines.append(f"{name:<50}{gaps[0]:>7.2f} s{gaps[1]:>11.2f} s{slowest:>9.2f} s")
        return "\n".join(lines)


@pytest.mark.long
@pytest.mark.real(*NEEDED)
def test_whatever_fails_each_accepted_message_is_there_once_and_each_desk_shows_it(start_cluster, tmp_path):
    cluster = start_cluster(NODES)
    trouble = Trouble(cluster)
    with Load() as load:
        load.reaches(50)
        for event in itertools.chain(trouble.events, itertools.cycle(trouble.events)):
            trouble.happens(event)
            if len(trouble.times) >= len(trouble.events) and load.accepted >= MESSAGES:
                break
    found = all_is_there(cluster, load, trouble)
    report = f"{trouble.table(load.attempts)}\n{summary(load, len(found.unrecorded))}"
    (tmp_path / "report").write_text(report)
    if "GATEPOST_CLUSTER_MESSAGES" in os.environ:
        sys.stderr.write(f"\n{report}\n")
    each_desk_shows_the_same(cluster, len(found.held))
    what_two_people_release_at_once_is_sent_once(cluster)


def summary(load: Load, unrecorded: int) -> str:
    replies = Counter(attempt.reply[:9] for attempt in load.attempts if not attempt.is_accepted)
    greetings = Counter(why[:40] for _, why in load.not_greeted)
    return (
        f"{load.accepted} of {len(load.attempts)} accepted, {unrecorded} of them without a record\n"
        f"not accepted: {dict(replies)}\nnot greeted: {dict(greetings)}"
    )


def all_is_there(cluster: Cluster, load: Load, trouble: Trouble):
    """The account, once all records are written."""
    found = None

    def is_complete() -> bool:
        nonlocal found
        found = account(cluster, load.attempts)
        return not found.faults and all(map(trouble.explains, found.unrecorded))

    try:
        wait_until(is_complete, "all is accounted for")
    except AssertionError:
        logs = "\n".join(f"{node.name}: {node.log}" for node in cluster.nodes)
        missing = [one.token for one in found.unrecorded if not trouble.explains(one)]
        raise AssertionError(f"{found.faults[:20]}\nno record: {missing[:20]}\n{logs[-8000:]}") from None
    return found


def each_desk_shows_the_same(cluster: Cluster, held: int) -> None:
    quarantines = [[row["id"] for row in node.listed("/quarantine", "messages")] for node in cluster.nodes]
    assert {len(quarantine) for quarantine in quarantines} == {held}
    assert all(quarantine == quarantines[0] for quarantine in quarantines)
    journals = [[row["id"] for row in node.listed("/journal", "records")] for node in cluster.nodes]
    assert all(journal == journals[0] for journal in journals)


def what_two_people_release_at_once_is_sent_once(cluster: Cluster) -> None:
    """Each of them at another node's desk."""
    messages = cluster.nodes[0].listed("/quarantine", "messages")[:RELEASED]
    assert len(messages) == RELEASED
    barrier = threading.Barrier(len(cluster.nodes))

    def release(node: Node, message: str) -> int:
        barrier.wait()
        return node.api(f"/quarantine/{message}/release", "POST", {})[0]

    with ThreadPoolExecutor(len(cluster.nodes)) as people:
        for message in messages:
            answers = people.map(release, cluster.nodes, itertools.repeat(message["id"]))
            assert sorted(answers) == [200, *[409] * (len(cluster.nodes) - 1)]
    tokens = [sunk.token for sunk in cluster.sunk()]
    assert [tokens.count(message["subject"]) for message in messages] == [1] * RELEASED
