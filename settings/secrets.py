"""Keeps secrets encrypted in the file and out of every message."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from .models import set_secret
from .problems import PLACEHOLDER, Problem, Where

__all__ = ["PLACEHOLDER", "in_plain", "is_secure", "known", "masked", "wrapped"]

_SECRET_KEYS = re.compile(r"(password|token|secret|.*EncryptionSecret|privateKey|presharedKey)\Z", re.IGNORECASE)
_SECRET_VARIABLES = re.compile(r"(.*_)?(password|passwd|token|secret|api_?key)\Z", re.IGNORECASE)
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


def wrapped(raw: object, value: object, where: Where = ()) -> Any:
    """The decrypted values, with those encrypted in the raw file inside SecretStr where any text may stand."""
    if is_secure(raw):
        return SecretStr(value) if isinstance(value, str) and _is_free(where) else value
    if isinstance(raw, Mapping) and isinstance(value, Mapping):
        return {key: wrapped(raw.get(key), item, (*where, str(key))) for key, item in value.items()}
    if isinstance(raw, list) and isinstance(value, list) and len(raw) == len(value):
        return [wrapped(one, item, (*where, i)) for i, (one, item) in enumerate(zip(raw, value, strict=True))]
    return value


def _must_be_secret(where: Where) -> bool:
    last = str(where[-1]) if where else ""
    if (last == "password" and "labels" not in where) or _is_login(where):
        return True
    if _is_env(where):
        return bool(_SECRET_VARIABLES.match(last))
    return ("patches" in where[:-1] and bool(_SECRET_KEYS.match(last))) or _is_platform_secret(where)


def _may_be_secret(where: Where) -> bool:
    always = (
        where[-1:] == ("password",)
        or _is_login(where)
        or _is_platform_secret(where)
        or where[-2:] == ("webhook", "url")
    )
    return always or "patches" in where[:-1] or _is_free(where)


def _is_login(where: Where) -> bool:
    """Whether this is the key that a host, or all hosts of a cluster, are logged into with, or Rancher's token."""
    of_a_host = where[:1] in (("hosts",), ("clusters",)) and where[2:] == ("ssh", "key")
    return of_a_host or (where[:1] == ("clusters",) and where[2:] == ("rancher", "token"))


def _is_platform_secret(where: Where) -> bool:
    receiver = where[:3] == ("platform", "monitoring", "receivers")
    return (receiver and where[-1] == "token") or where == ("platform", "traefik", "certificate", "own", "key")


def _is_free(where: Where) -> bool:
    """Whether the owner may write any text here, a secret or not: chart values, and variables of applications."""
    return _is_env(where) or (where[:1] == ("platform",) and where[2:3] == ("values",))


def _is_env(where: Where) -> bool:
    return where[:2] == ("platform", "applications") and where[3:4] == ("env",) and len(where) == 5


def _leaves(value: object, where: Where) -> Iterator[tuple[Where, object]]:
    if isinstance(value, Mapping) and not is_secure(value):
        for key, item in value.items():
            yield from _leaves(item, (*where, str(key)))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _leaves(item, (*where, i))
    else:
        yield where, value
