"""What the programs for Python's clients share: the cluster that the launcher runs for them.

The launcher (../go/launcher) gives the members' URLs in ENDPOINTS and its control's URL in CONTROL.
"""

import os
import time
import urllib.parse
import urllib.request

# Longer than any answer takes; a test that waits this long has failed.
PATIENCE = 15

ENDPOINTS = os.environ["ENDPOINTS"].split(",")
NAMES = ["m1", "m2", "m3"]

# Options of a gRPC channel that comes back to a restarted member at once, and asks no proxy.
CHANNEL = {
    "grpc.enable_http_proxy": 0,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 250,
}

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def address(name):
    """The host and the port of a member."""
    url = urllib.parse.urlsplit(ENDPOINTS[NAMES.index(name)])
    return url.hostname, url.port


def others(name):
    """The members that are not this one."""
    return [other for other in NAMES if other != name]


def _control(path, method):
    request = urllib.request.Request(os.environ["CONTROL"] + path, method=method)
    with _direct.open(request, timeout=60) as answer:
        return answer.read().decode()


def kill(name):
    """Ends a member with SIGKILL."""
    _control("/kill/" + name, "POST")


def start(name):
    """Starts a member again, and waits until it serves."""
    _control("/start/" + name, "POST")


def leader():
    """The name of the leader."""
    return _control("/leader", "GET")


class Deadline:
    """The time that a test may take for something that it tries again and again."""

    def __init__(self):
        self._end = time.monotonic() + PATIENCE

    def check(self, cause):
        """Gives up with the cause when the time is over."""
        if time.monotonic() > self._end:
            raise AssertionError(f"not within {PATIENCE} s") from cause
