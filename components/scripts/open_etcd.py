"""Turns on etcd's users: a client's certificate is its login, and opens what its user may see and no more.

Runs in a pod, once. etcd's own client has no shell around it in its image, so this asks etcd's HTTP gateway.
The wire is https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib import request
from urllib.error import HTTPError, URLError

STEPS: tuple[tuple[str, dict[str, object]], ...] = (
    ("user/add", {"name": "root", "options": {"no_password": True}}),
    ("role/add", {"name": "root"}),
    ("user/grant", {"user": "root", "role": "root"}),
    ("enable", {}),
)
# What etcd says once users are on: its gateway logs nobody in by certificate, so nothing more can be asked for there.
_ON = ("CommonName of client sending a request against gateway", "user name is empty")
_THERE = ("already exists", "already granted")
TRIES = 60
PAUSE_S = 5.0


class Refused(Exception):
    """etcd says no; the message is its own."""


def open_(endpoint: str, keys: Path, ask: Callable[[str, bytes], None] | None = None) -> bool:
    """Turn users on. Says whether it did; False when they are on already.

    Args:
        endpoint: `https://HOST:PORT` of a member.
        keys: folder with `tls.crt`, `tls.key` and `ca.crt` of the user root.
        ask: posts a body to a path of the API.

    Raises:
        Refused: etcd says no.
        OSError: it can't be reached.
    """
    ask = ask or _asker(endpoint, keys)
    for path, body in STEPS:
        try:
            ask(f"/v3/auth/{path}", json.dumps(body).encode())
        except Refused as refused:
            if any(word in str(refused) for word in _ON):
                return False
            if not any(word in str(refused) for word in _THERE):
                raise
    return True


def _asker(endpoint: str, keys: Path) -> Callable[[str, bytes], None]:
    context = ssl.create_default_context(cafile=keys / "ca.crt")
    context.load_cert_chain(keys / "tls.crt", keys / "tls.key")

    def ask(path: str, body: bytes) -> None:
        asked = request.Request(endpoint + path, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
        try:
            request.urlopen(asked, timeout=10, context=context).close()  # noqa: S310  # the URL is our own
        except HTTPError as error:
            raise Refused(error.read().decode(errors="replace")) from None

    return ask


def main(arguments: Sequence[str]) -> int:
    """`open_etcd.py ENDPOINT KEYS`; tries again while etcd is still starting."""
    endpoint, keys = arguments
    for attempt in range(TRIES):
        try:
            print("users are on" if open_(endpoint, Path(keys)) else "users were on already")
        except (URLError, OSError, Refused) as error:
            print(f"{endpoint}: {error} (try {attempt + 1} of {TRIES})", file=sys.stderr)
            time.sleep(PAUSE_S)
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
