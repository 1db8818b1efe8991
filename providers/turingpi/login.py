"""With which login a board is reached by a delete or a refresh (4d.33).

Both run without the program, and with the login that state holds. `configure` brings the config with which the program
last ran: the present one in an `up`, and in a destroy or a refresh the one that the engine noted at the last `up`. So
a password that was changed since is nowhere in what the engine hands over.

A board that refuses is therefore tried once more, with the login in the stack's present settings. They are asked for
with the engine's own command, which opens their secrets as the running engine did. So nothing secret gets into an
environment, an argument or a file, and a bare `pulumi destroy --target` has it too. Settings that can't be opened, or
that name no such board any more, leave it at the refusal.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from providers.engine import Reporter, current_urn
from providers.errors import AuthError
from providers.turingpi import BOARDS
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.wire import CertificateError

ASK_S = 60.0

T = TypeVar("T")


def reach(stored: Endpoint, boards: object, act: Callable[[Bmc], T]) -> T:
    """Do something on a board with the freshest login there is for it.

    Args:
        stored: the board, with the login that state holds.
        boards: `homelab:boards` as `configure` brought it, of any shape; what it says of this board wins.
        act: what to do; done again, from its start, when the board refused the first login.

    Raises:
        AuthError: no login fits.
        HomelabError: what `act` raises.
    """
    known = declared(boards, stored) or stored
    try:
        return _done(known, act)
    except (AuthError, CertificateError):
        present = declared(_present_boards(_stack()), stored)
        if present is None or present == known:
            raise
    Reporter().info(f"{stored.url}: its login was changed since the last `up`; went on with the one in the settings")
    return _done(present, act)


def declared(boards: object, held: Endpoint) -> Endpoint | None:
    """The login that the settings have for the board at `held.url`; None when they have none."""
    found = _parsed(boards)
    for board in found.values() if isinstance(found, Mapping) else ():
        if isinstance(board, Mapping) and _is_at(board, held.url) and isinstance(board.get("password"), str):
            return replace(
                held,
                username=board.get("username", held.username),
                password=board["password"],
                fingerprint=board.get("fingerprint"),
            )
    return None


def _done(endpoint: Endpoint, act: Callable[[Bmc], T]) -> T:
    with Bmc.connect(endpoint) as bmc:
        return act(bmc)


def _is_at(board: Mapping[str, Any], url: str) -> bool:
    address = str(board.get("address", "")).rstrip("/")
    return url == (address if "://" in address else f"https://{address}")


def _stack() -> str:
    """The stack of the engine's running call, out of `urn:pulumi:STACK::PROJECT::...`; "" outside one."""
    return current_urn().partition("::")[0].rpartition(":")[2]


@functools.cache  # one process serves one run, and the settings don't change under it
def _present_boards(stack: str) -> object:
    command = ["pulumi", "config", "--show-secrets", "--json", "--non-interactive", "--stack", stack]
    if not stack:
        return None
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ASK_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    config = _parsed(done.stdout)
    entry = config.get(BOARDS) if isinstance(config, Mapping) else None
    return entry.get("value") if isinstance(entry, Mapping) else None


def _parsed(value: object) -> object:
    """The value itself, out of JSON where it is text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
