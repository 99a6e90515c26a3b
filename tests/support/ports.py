"""Ports for the servers that tests start: no other test and no other program gets one meanwhile."""

import random
import socket

_BELOW = range(10_000, 32_000)
"""The system gives none of these to a program that asks for any port (ip_local_port_range, ip(7))."""


def free_port() -> int:
    """A port for a server that is started later; it is reserved until this process ends.

    What is reserved is a name, an abstract one (unix(7)), which each process of tests tries to take.
    """
    for port in random.SystemRandom().sample(_BELOW, 1000):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0gatepost-test-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            name.close()
        else:
            name.detach()  # open as long as the process runs
            return port
    raise OSError("no port is free")
