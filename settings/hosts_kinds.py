"""The kinds of values that only hosts and their clusters have."""

import base64
import binascii
import re
from typing import Annotated, Any

from .kinds import as_text, kind
from .problems import quoted, wrong

_K3S = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+(-rc[0-9]+)?\+k3s[0-9]+\Z")
_HOST_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
K3S_PARTS = ("coredns", "local-storage", "metrics-server", "runtimes", "servicelb", "traefik")


def _k3s_version(value: object) -> str:
    text = as_text(value, "v1.36.3+k3s1")
    if _K3S.match(text):
        return text
    fixes = (f"v{text}", f"{text}+k3s1", f"v{text}+k3s1")
    meant = next((f"did you mean {fix}?" for fix in fixes if _K3S.match(fix)), "write all of it, such as v1.36.3+k3s1")
    raise wrong(f"{quoted(text)} is not a k3s version", meant)


def _host_key(value: object) -> str:
    text = as_text(value, "ssh-ed25519 AAAA...")
    words = text.split()
    if len(words) >= 2 and words[0] in _HOST_KEYS and _holds(words[1], words[0]):
        return f"{words[0]} {words[1]}"
    fix = "write what `ssh-keyscan -t ed25519 ADDRESS` says after the address, such as ssh-ed25519 AAAA..."
    raise wrong(f"{quoted(text)} is not a host key", fix)


def _holds(data: str, algorithm: str) -> bool:
    """Whether this is a key of that algorithm: its own name is the first thing in it (RFC 4253, 6.6)."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    name = algorithm.encode()
    return raw[:4] == len(name).to_bytes(4, "big") and raw[4 : 4 + len(name)] == name and len(raw) > 4 + len(name)


def _user(value: object) -> str:
    text = as_text(value, "pi")
    if not _USER.match(text):
        raise wrong(f"{quoted(text)} is not a user of Linux", "write a login name, such as root or pi")
    return text


def _k3s_part(value: object) -> str:
    text = as_text(value, "traefik")
    if text not in K3S_PARTS:
        raise wrong(f"{quoted(text)} is no part that k3s brings", f"write {', '.join(K3S_PARTS)}")
    return text


_TEXT: dict[str, Any] = {"type": "string"}
K3sVersion = Annotated[str, *kind(_k3s_version, {"type": "string", "pattern": r"^v[0-9.]+(-rc[0-9]+)?\+k3s[0-9]+$"})]
HostKey = Annotated[str, *kind(_host_key, {"type": "string", "pattern": "^(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/=]+"})]
User = Annotated[str, *kind(_user, _TEXT)]
K3sPart = Annotated[str, *kind(_k3s_part, {"enum": list(K3S_PARTS)})]
