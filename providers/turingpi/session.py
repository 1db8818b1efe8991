"""Who is logged in to which board: one session a board and user for the whole process.

bmcd bans an address for a minute and more after five bad logins, keeps every token that it gave out in memory, and
spends a slow core's time on each password (facts A3). So a token is shared by all who talk to a board, and refused
credentials are not tried again for a while, whoever asks and however often.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable

from providers.deadline import Deadline
from providers.errors import AuthError, ProtocolError
from providers.turingpi import answers
from providers.turingpi.wire import Answer, Wire

LOGIN = "/api/bmc/authenticate"
REFUSED_FOR_S = 60.0  # less than a ban's first minute would be spent on asking again


class Session:
    """The token of one user on one board.

    Args:
        username: a user of the BMC.
        password: theirs.
        clock: monotonic, in seconds.
    """

    def __init__(self, username: str, password: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._username = username
        self._password = password
        self._clock = clock
        self._lock = threading.Lock()
        self._refused: tuple[float, str] | None = None
        self.token: str | None = None

    def renew(self, wire: Wire, used: str | None, deadline: Deadline) -> str:
        """A token that is not `used`: another thread's newer one, or a new one by logging in once.

        Raises:
            AuthError: the credentials are refused, or were a moment ago.
            ProtocolError: the answer is no login's.
            UnreachableError: no answer.
        """
        with self._lock:
            if self.token is not None and self.token != used:
                return self.token
            self.token = None
            if self._refused and self._clock() < self._refused[0]:
                raise AuthError(self._refused[1])
            self.token = self._login(wire, deadline)
            return self.token

    def refuse(self, wire: Wire, text: str) -> AuthError:
        """Remember that these credentials are no good, and the error to raise for it."""
        ban_s = answers.blocked_s(text)
        message = f"{wire.name}: user {self._username} is not let in ({text}); "
        if ban_s is not None:
            message += (
                f"this address is banned for another {ban_s:.0f} s after too many bad logins: wait that long, then "
            )
        message += (
            "check the board's username and password in the settings; a BMC that lost its settings is back at its "
            "firmware's default password, which is never tried: set it anew with `passwd` on the BMC"
        )
        self._refused = (self._clock() + (REFUSED_FOR_S if ban_s is None else ban_s), message)
        return AuthError(message)

    def _login(self, wire: Wire, deadline: Deadline) -> str:
        if not wire.secure:
            raise AuthError(f"{wire.name}: asks for a login over plain http; write the board's address with https://")
        body = json.dumps({"username": self._username, "password": self._password}).encode()
        answer = wire.request("POST", LOGIN, deadline, {"Content-Type": "application/json"}, body)
        if answer.status in (401, 403):
            raise self.refuse(wire, answers.complaint(answer))
        return _token(wire, answer)


def _token(wire: Wire, answer: Answer) -> str:
    where = f"{wire.name}: login"
    value = answers.document(where, answer)
    token = value.get("id") if isinstance(value, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isalnum():
        raise ProtocolError(f"{where}: no token in the answer")
    return token


_sessions: dict[tuple[str, str, bytes], Session] = {}
_sessions_lock = threading.Lock()


def shared(origin: str, username: str, password: str) -> Session:
    """The process's session for these credentials."""
    key = (origin, username, hashlib.sha256(password.encode()).digest())
    with _sessions_lock:
        return _sessions.setdefault(key, Session(username, password))
