"""The desk behind HAProxy that leads each request to another node: nobody notices which one answers."""

import http.client
import re
import urllib.parse

import pytest
from cluster_nodes import PASSWORD
from cluster_servers import PATIENCE_SECONDS, wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.real("postgres", "haproxy", "redis-server", "smtp-sink", "ip", "iptables"),
]
REQUESTS = 6


class Browser:
    """Asks over a new connection each time, and has the cookie of the desk."""

    def __init__(self, cluster):
        self._trust = cluster.trust
        self.cookie = ""

    def ask(self, path, method="GET", **form):
        """The status of the answer."""
        connection = DeskConnection("desk.example.com", context=self._trust, timeout=PATIENCE_SECONDS)
        fields = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        try:
            connection.request(method, path, urllib.parse.urlencode(form), fields)
            answer = connection.getresponse()
            answer.read()
            if given := answer.getheader("Set-Cookie"):
                assert given.startswith("gatepost-8025="), "of a node, and none of HAProxy"
                self.cookie = given.partition(";")[0]
            return answer.status
        finally:
            connection.close()


class DeskConnection(http.client.HTTPSConnection):
    """To HAProxy, whatever the name."""

    def connect(self):
        self.sock = self._create_connection(("127.0.0.1", 443), self.timeout)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def answered(cluster):
    """The nodes that have answered, by HAProxy's log."""
    return re.findall(r" desk~ desks/(mx\d) ", (cluster.haproxy.folder / "output").read_text())


def is_let_in(browser):
    """False while HAProxy has no node; never asked to log in."""
    status = browser.ask("/journal")
    assert status in (200, 502, 503)
    return status == 200


def test_a_user_is_logged_in_at_all_nodes_through_restart_and_failover_until_the_log_out(start_cluster):
    cluster = start_cluster(2)
    cluster.lead_each_request_to_another_node()
    browser = Browser(cluster)
    assert browser.ask("/journal") == 303
    assert browser.ask("/login", "POST", password=PASSWORD) == 303
    assert [browser.ask("/journal") for _ in range(REQUESTS)] == [200] * REQUESTS
    wait_until(lambda: len(answered(cluster)) == 2 + REQUESTS, "HAProxy has written its log")
    assert {*answered(cluster)[2:]} == {"mx1", "mx2"}
    for node in cluster.nodes:
        assert node.stop() == 0
        node.start()
        wait_until(node.is_ready, f"{node.name} is ready")
        wait_until(lambda: is_let_in(browser), "HAProxy asks the node again")
    cluster.databases.fail_over()
    for node in cluster.nodes:
        wait_until(node.is_ready, f"{node.name} is ready")
    assert [browser.ask("/journal") for _ in range(REQUESTS)] == [200] * REQUESTS
    left, token = Browser(cluster), browser.cookie
    assert browser.ask("/logout", "POST") == 303
    left.cookie = token
    assert [left.ask("/journal") for _ in range(REQUESTS)] == [303] * REQUESTS
