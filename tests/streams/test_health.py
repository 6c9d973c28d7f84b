"""A worker's small HTTP server."""

import socket

import pytest
from prometheus_client import CollectorRegistry

from streams.health import HealthServer, Heartbeat


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: Address already in use"):
            HealthServer("127.0.0.1", port, Heartbeat(), CollectorRegistry())
