"""Keeps secrets encrypted in the file and out of every message."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .models import set_secret
from .problems import Problem, Where

PLACEHOLDER = "[secret]"
"""What stands for a secret when the file is read without Pulumi."""

_SECRET_KEYS = re.compile(r"(password|token|secret|.*EncryptionSecret|privateKey|presharedKey)\Z", re.IGNORECASE)
_ROTATE = "and change it where it is used, as the file has been read"


def is_secure(value: object) -> bool:
    """Whether this is how Pulumi writes an encrypted value: `{secure: v1:...}`."""
    return isinstance(value, Mapping) and set(value) == {"secure"} and isinstance(value["secure"], str)


def in_plain(raw: Mapping[str, object]) -> Iterator[Problem]:
    """Secrets that the raw file shows, and other values that are needlessly encrypted."""
    for where, value in _leaves(raw, ()):
        if is_secure(value):
            if not _may_be_secret(where):
                yield Problem(where, "is encrypted, but is no secret", "write it in plain")
        elif _must_be_secret(where) and value is not None:
            yield Problem(where, "is a secret written in plain", f"type `{set_secret(where)}`, {_ROTATE}")


def masked(value: object) -> Any:
    """The values of a raw file with a placeholder for each encrypted one."""
    if is_secure(value):
        return PLACEHOLDER
    if isinstance(value, Mapping):
        return {key: masked(item) for key, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, list) else value


def known(raw: Mapping[str, object], decrypted: Mapping[str, object]) -> frozenset[str]:
    """Every text that must not appear in a message: decrypted ones, and those that should have been encrypted."""
    encrypted = {where for where, value in _leaves(raw, ()) if is_secure(value) or _must_be_secret(where)}
    found = (_leaves(raw, ()), _leaves(decrypted, ()))
    return frozenset(
        str(value)
        for leaves in found
        for where, value in leaves
        if (_must_be_secret(where) or where in encrypted) and value is not None and not is_secure(value)
    )


def _must_be_secret(where: Where) -> bool:
    if where[-1:] == ("password",) and "labels" not in where:
        return True
    return "patches" in where[:-1] and isinstance(where[-1], str) and bool(_SECRET_KEYS.match(where[-1]))


def _may_be_secret(where: Where) -> bool:
    return where[-1:] == ("password",) or "patches" in where[:-1]


def _leaves(value: object, where: Where) -> Iterator[tuple[Where, object]]:
    if isinstance(value, Mapping) and not is_secure(value):
        for key, item in value.items():
            yield from _leaves(item, (*where, str(key)))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _leaves(item, (*where, i))
    else:
        yield where, value
