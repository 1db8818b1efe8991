"""Ports for servers that a test starts."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind((host, 0))
        return int(taken.getsockname()[1])
