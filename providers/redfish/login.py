"""Who is logged in to a BMC: a session of Redfish where the BMC has them, else the password with each request.

A BMC holds few sessions (some no more than eight) and locks a user out after some wrong passwords. So a client keeps
one session and gives it back, and credentials that were refused are not tried again for a while, whoever asks.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from providers.deadline import Deadline
from providers.errors import AuthError, HomelabError, ProtocolError
from providers.redfish import answers
from providers.turingpi.wire import Answer, Wire

REFUSED_FOR_S = 60.0
_NO_SESSIONS = (404, 405, 501)  # the BMC has no session service

_refused: dict[tuple[str, str, bytes], tuple[float, str]] = {}
_lock = threading.Lock()


@dataclass
class Login:
    """One client's login.

    Attributes:
        username: a user of the BMC.
        password: theirs.
        clock: monotonic, in seconds.
    """

    username: str
    password: str = field(repr=False)
    clock: Callable[[], float] = time.monotonic
    _headers: dict[str, str] = field(default_factory=dict, repr=False)
    _session: str = ""

    def headers(self, wire: Wire, sessions: str, deadline: Deadline) -> dict[str, str]:
        """What a request carries; logs in when it has to.

        Args:
            wire: to the BMC.
            sessions: path of its sessions, or "" where it has none.
            deadline: for the login.

        Raises:
            AuthError: the credentials are refused, or were a moment ago.
            ProtocolError: the answer is no login's.
            UnreachableError: no answer.
        """
        if not wire.secure:
            return {}  # a password never goes over plain http; what needs none (an emulator) answers all the same
        if not self._headers:
            self._check_refused(wire)
            self._headers = self._log_in(wire, sessions, deadline) if sessions else self._basic()
        return dict(self._headers)

    @property
    def is_session(self) -> bool:
        """Whether there is a session, which the BMC may have ended; a password can only be wrong."""
        return "X-Auth-Token" in self._headers

    def forget(self) -> None:
        """The BMC ended the session."""
        self._headers, self._session = {}, ""

    def refuse(self, wire: Wire, answer: Answer) -> AuthError:
        """Remember that these credentials are no good, and the error to raise for it."""
        if not wire.secure:
            return AuthError(f"{wire.name}: asks for a login over plain http; write the address with https://")
        message = (
            f"{wire.name}: user {self.username} is not let in (HTTP {answer.status}: {answers.complaint(answer)}); "
            f"check username and password in the settings, and that the user may log in over Redfish"
        )
        with _lock:
            _refused[self._key(wire)] = (self.clock() + REFUSED_FOR_S, message)
        self.forget()
        return AuthError(message)

    def log_out(self, wire: Wire, deadline: Deadline) -> None:
        """Give the session back; what keeps that from working does not matter: it ends by itself."""
        if self._session:
            with contextlib.suppress(HomelabError):
                wire.request("DELETE", self._session, deadline, self._headers)
        self.forget()

    def _basic(self) -> dict[str, str]:
        pair = f"{self.username}:{self.password}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}

    def _log_in(self, wire: Wire, sessions: str, deadline: Deadline) -> dict[str, str]:
        body = json.dumps({"UserName": self.username, "Password": self.password}).encode()
        answer = wire.request("POST", sessions, deadline, {"Content-Type": "application/json"}, body)
        if answer.status in (401, 403) or answer.status == 400:
            raise self.refuse(wire, answer)
        if answer.status in _NO_SESSIONS:
            return self._basic()
        where = f"{wire.name}: login"
        found = answers.document(where, answer)
        if not answer.token or not answer.token.isascii() or not answer.token.isprintable():
            raise ProtocolError(f"{where}: no token in the answer")
        link = found.get("@odata.id") or _path_of(answer.location)
        self._session = link if isinstance(link, str) and link.startswith("/redfish/") else ""
        return {"X-Auth-Token": answer.token}

    def _check_refused(self, wire: Wire) -> None:
        with _lock:
            until, message = _refused.get(self._key(wire), (0.0, ""))
        if self.clock() < until:
            raise AuthError(message)

    def _key(self, wire: Wire) -> tuple[str, str, bytes]:
        return wire.name, self.username, hashlib.sha256(self.password.encode()).digest()


def _path_of(location: str) -> str:
    """The path of a Location, which some BMCs give with host and some without."""
    return "/" + location.split("://", 1)[1].partition("/")[2] if "://" in location else location


def forget_refusals() -> None:
    """Let refused credentials be tried again at once."""
    with _lock:
        _refused.clear()
