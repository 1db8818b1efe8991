"""Secrets that protect nothing, sealed as Pulumi seals them, so that a twin's settings have the shape of real ones.

Protocol source: `secrets/passphrase` and `resource/config/crypt.go` of https://github.com/pulumi/pulumi. A stack's salt
is `v1:SALT:v1:NONCE:TEXT`, a value `v1:NONCE:TEXT`: AES-256-GCM with a key of PBKDF2-SHA256 over 1,000,000 rounds.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from tools.paths import TWIN_PASSPHRASE

ROUNDS = 1_000_000
KEY_BYTES = 32
NONCE_BYTES = 12
_SEED = b"homelab!"  # always the same: settings that are written again can still open the state of the first ones


def salt() -> str:
    """The `encryptionsalt` of a twin's settings: the word that proves the passphrase, sealed."""
    return f"v1:{base64.b64encode(_SEED).decode()}:{sealed('pulumi')['secure']}"


def sealed(text: str) -> dict[str, str]:
    """A text as it stands in a settings file: `{secure: v1:...}`. The same text is always sealed the same way."""
    plain = text.encode()
    nonce = hashlib.sha256(plain).digest()[:NONCE_BYTES]
    hidden = AESGCM(_key()).encrypt(nonce, plain, None)
    return {"secure": f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(hidden).decode()}"}


def stand_in(ciphertext: str) -> str:
    """What a twin has in place of a secret: another one for another ciphertext, so that a change of it is seen.

    It is 32 bytes in base64, which is also what keys in machine configs look like.
    """
    return base64.b64encode(hashlib.sha256(ciphertext.encode()).digest()).decode()


@cache
def _key(seed: bytes = _SEED) -> bytes:
    return PBKDF2HMAC(SHA256(), KEY_BYTES, seed, ROUNDS).derive(TWIN_PASSPHRASE.encode())
