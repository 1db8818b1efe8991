"""Whether a passphrase opens what the engine encrypted, found out without the engine.

Protocol source: `secrets/passphrase` and `resource/config/crypt.go` of https://github.com/pulumi/pulumi. A stack's salt
is `v1:SALT:v1:NONCE:TEXT`, where TEXT is the word "pulumi" under AES-256-GCM with a key of PBKDF2-SHA256.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from providers.errors import ProtocolError, UserError

ROUNDS = 1_000_000
KEY_BYTES = 32
PROOF = b"pulumi"


def given(environment: Mapping[str, str]) -> str | None:
    """The passphrase of an engine's environment; None where there is none.

    Raises:
        UserError: its file can't be read.
    """
    if "PULUMI_CONFIG_PASSPHRASE" in environment:
        return environment["PULUMI_CONFIG_PASSPHRASE"]
    path = environment.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else None
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None


def opens(passphrase: str, salt: str) -> bool:
    """Whether it is the one that the salt was made with.

    Raises:
        ProtocolError: the salt is none.
    """
    try:
        version, seed, inner, nonce, text = salt.split(":")
        if (version, inner) != ("v1", "v1"):
            raise ValueError(version)
        made = PBKDF2HMAC(SHA256(), KEY_BYTES, base64.b64decode(seed), ROUNDS)
        key = AESGCM(made.derive(passphrase.encode()))
        return key.decrypt(base64.b64decode(nonce), base64.b64decode(text), None) == PROOF
    except InvalidTag:
        return False
    except ValueError:
        raise ProtocolError("the salt of the state's passphrase can't be read; take another archive") from None
