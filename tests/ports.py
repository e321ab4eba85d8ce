"""Ports for programs that are started with a number and listen later."""

import socket
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

_given = set()


def free_port():
    """Below those that the kernel gives to connections: none takes it before its program listens."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        # Not `random`, which pytest-randomly seeds alike in all its processes.
        port = SystemRandom().randrange(1025, first)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _given:
                _given.add(port)
                return port
