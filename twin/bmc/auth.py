"""Who may use the API: tokens, passwords and bans (facts A3)."""

import base64
import binascii
import json
import math
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass

from twin.clock import Clock

_ALPHABET = string.ascii_letters + string.digits
_TOKEN_S = 10800  # since last use
_BAN_S = 60
_BAN_AFTER = 5
_BAN_DOUBLINGS = 10
REALM = 'realm="Access to Baseboard Management Controller"'


class Denied(Exception):
    """A request without the right credentials; `challenge` is the WWW-Authenticate header of the 401."""

    def __init__(self, text: str, challenge: str = f"Basic {REALM}") -> None:
        super().__init__(text)
        self.challenge = challenge


@dataclass
class _Peer:
    failures: int = 0
    banned_until: float = 0


class Auth:
    """The session tokens and failed attempts of one running bmcd; both are lost when it restarts."""

    def __init__(self, clock: Clock, username: str, password: str, on_failure: Callable[[], None]) -> None:
        self._clock = clock
        self._on_failure = on_failure
        self._user = (username, password)
        self._tokens: dict[str, float] = {}
        self._peers: dict[str, _Peer] = {}

    def change_password(self, password: str) -> None:
        """Another password from now on; tokens stay valid."""
        self._user = (self._user[0], password)

    def forget_tokens(self) -> None:
        """All sessions end."""
        self._tokens.clear()

    def expire_tokens(self) -> None:
        """All sessions were last used too long ago."""
        self._tokens = dict.fromkeys(self._tokens, -math.inf)

    def login(self, peer: str, body: bytes) -> str:
        """A token for a right user and password. Raises Denied."""
        self._check_ban(peer)
        try:
            asked = json.loads(body)
            credentials = (asked["username"], asked["password"])
        except (ValueError, KeyError, TypeError) as error:
            raise Denied(f"error trying to parse credentials: {type(error).__name__}") from None
        self._verify(peer, credentials)
        token = "".join(secrets.choice(_ALPHABET) for _ in range(64))
        self._tokens[token] = time.monotonic()
        return token

    def check(self, peer: str, header: str | None) -> None:
        """Let a request pass or raise Denied. The scheme's case and the one blank count, as in bmcd."""
        scheme, _, value = (header or "").partition(" ")
        challenge = f'Bearer {REALM} error="invalid_token" error_description="invalid token"'
        self._check_ban(peer, challenge if scheme == "Bearer" else f"Basic {REALM}")
        if header is None:
            raise Denied("no authorization header provided")
        if scheme == "Bearer":
            self._bearer(peer, value, challenge)
        elif scheme == "Basic":
            self._verify(peer, _basic(value))
        else:
            raise Denied(f"{scheme} authentication not supported", REALM)

    def _bearer(self, peer: str, token: str, challenge: str) -> None:
        used = self._tokens.get(token)
        if used is None:
            self._failed(peer)
            raise Denied(f"token {token} is not registered", challenge)
        if time.monotonic() - used > self._clock.real_s(_TOKEN_S, floor_s=60):
            del self._tokens[token]
            raise Denied("token expired 3h ago", challenge)
        self._tokens[token] = time.monotonic()
        self._peers.pop(peer, None)

    def _verify(self, peer: str, credentials: tuple[str, str]) -> None:
        if credentials != self._user:
            self._failed(peer)
            raise Denied("credentials incorrect")
        self._peers.pop(peer, None)

    def _failed(self, peer: str) -> None:
        record = self._peers.setdefault(peer, _Peer())
        record.failures += 1
        self._on_failure()
        if record.failures >= _BAN_AFTER:
            doublings = min(record.failures - _BAN_AFTER, _BAN_DOUBLINGS)
            record.banned_until = time.monotonic() + self._clock.real_s(_BAN_S * 2**doublings, floor_s=0.5)

    def _check_ban(self, peer: str, challenge: str = f"Basic {REALM}") -> None:
        left = self._peers[peer].banned_until - time.monotonic() if peer in self._peers else 0
        if left > 0:
            shown = f"{int(left)}s {int(left * 1000) % 1000}ms"
            raise Denied(f"Exceeded allowed authentication attempts. Access blocked for {shown}", challenge)


def _basic(value: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Denied("credentials incorrect") from None
    return user, password
