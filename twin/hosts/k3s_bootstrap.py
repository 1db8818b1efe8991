"""k3s' bootstrap data: the cluster's authorities in its own datastore, sealed with the servers' token.

Key and value are k3s' own (pkg/cluster/encrypt.go), so that who reads a snapshot can tell whose it is.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twin.talos.process import program

if TYPE_CHECKING:
    from twin.hosts.k3s_server import Server

_NAMES = {
    "server-ca": "ServerCA", "client-ca": "ClientCA", "request-header-ca": "RequestHeaderCA",
    "etcd/server-ca": "ETCDServerCA", "etcd/peer-ca": "ETCDPeerCA",
}  # fmt: skip
_NONCE = 12


def key(password: str) -> str:
    """Where it is stored."""
    return f"/bootstrap/{hashlib.sha256(password.encode()).hexdigest()[:12]}"


def sealed(password: str, content: Mapping[str, bytes]) -> bytes:
    """Files (path below tls/ -> content) as k3s stores them."""
    files = {
        _told(path): {"Timestamp": "2026-01-01T00:00:00Z", "Content": base64.b64encode(data).decode()}
        for path, data in content.items()
    }
    salt, nonce = secrets.token_hex(8), os.urandom(_NONCE)
    box = nonce + AESGCM(_aes(password, salt)).encrypt(nonce, json.dumps(files).encode(), None)
    return f"{salt}:{base64.b64encode(box).decode()}".encode()


def opened(password: str, value: bytes) -> dict[str, bytes]:
    """The files again. Raises OSError, in k3s' words."""
    salt, _, text = value.decode().strip().partition(":")
    try:
        box = base64.b64decode(text, validate=True)
        files = json.loads(AESGCM(_aes(password, salt)).decrypt(box[:_NONCE], box[_NONCE:], None))
    except (InvalidTag, ValueError):
        raise OSError("failed to bootstrap cluster data: cipher: message authentication failed") from None
    paths = {_told(path): path for name in _NAMES for path in (f"{name}.crt", f"{name}.key")}
    paths["ServiceKey"] = "service.key"
    return {paths[name]: base64.b64decode(file["Content"]) for name, file in files.items()}


def _told(path: str) -> str:
    """A file's name in the data."""
    if path == "service.key":
        return "ServiceKey"
    name, _, end = path.rpartition(".")
    return f"{_NAMES[name]}{'Key' if end == 'key' else ''}"


def _aes(password: str, salt: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha1", password.encode(), salt.encode(), 4096, 32)


async def store(server: Server) -> None:
    """Put it into a server's datastore, unless it is there. Raises OSError."""
    if not await etcdctl(server, "get", "--print-value-only", key(server.password)):
        await etcdctl(server, "put", key(server.password), given=sealed(server.password, server.tls.content()))


async def load(server: Server) -> None:
    """Take a server's authorities from its datastore. Raises OSError."""
    found = await etcdctl(server, "get", "--print-value-only", key(server.password))
    if not found:
        said = "bootstrap data already found and encrypted with different token"
        raise OSError(f"failed to bootstrap cluster data: {said}")
    server.tls.take(opened(server.password, found))


async def etcdctl(server: Server, *words: str, given: bytes = b"") -> bytes:
    """Etcd's own client, as k3s' member lets it in; what it prints. Raises OSError."""
    tls = server.tls
    crt, own = tls.write("etcd/client", tls.leaf("etcd/server-ca", "etcd-client"))
    child = await asyncio.create_subprocess_exec(
        program(server.host.lab.tools, "etcdctl"), f"--endpoints=https://{server.host.address}:2379",
        f"--cacert={tls.folder / 'etcd/server-ca.crt'}", f"--cert={crt}", f"--key={own}", "--command-timeout=10s",
        *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate(given)
    if child.returncode:
        raise OSError(f"etcdctl: {err.decode(errors='replace').strip()}")
    return out
