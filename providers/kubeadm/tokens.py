"""What lets a host join: bootstrap tokens, and the key to uploaded certificates. Both die, and are then made anew."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from providers.errors import ProtocolError
from providers.kubeadm import config
from providers.kubeadm.host import ADMIN, CA, Shell, ca_hash
from providers.kubeadm.wish import Cluster, Node

TTL = timedelta(hours=2)
# A join may take this long; a token with less left would die in the middle of it.
MARGIN = timedelta(minutes=20)
UPLOAD = "/etc/homelab/upload.yaml"
SIGNING, AUTHENTICATION = "signing", "authentication"


@dataclass(frozen=True)
class Token:
    """A bootstrap token as the cluster lists it.

    Attributes:
        expires: None for one that never does.
    """

    token: str = field(repr=False)
    description: str
    usages: tuple[str, ...]
    expires: datetime | None

    def serves(self, now: datetime) -> bool:
        """Whether it is ours, good for joining, and for long enough."""
        lasts = self.expires is not None and self.expires - now >= MARGIN
        return self.description == config.DESCRIPTION and lasts and {SIGNING, AUTHENTICATION} <= set(self.usages)


def ticket(helper: Shell, cluster: Cluster, node: Node, sans: Iterable[str], *, renew: bool = False) -> config.Ticket:
    """What `node` joins with, made on `helper`, a control plane that is up.

    A token that is good for long enough serves again; the certificates' key is always new, because nobody keeps it.

    Args:
        helper: a control plane.
        cluster: the cluster that it is in.
        node: who joins.
        sans: as for `config.init`.
        renew: take no token that is there: one was just refused.
    """
    certificate = helper.read(CA)
    if certificate is None:
        raise ProtocolError(f"{helper.target.place}: has no {CA}, yet it is a control plane of {cluster.name}")
    token = _token(helper, renew=renew)
    key = upload(helper, cluster, sans) if node.is_control_plane else ""
    return config.Ticket(token, ca_hash(certificate.decode()), key)


def upload(helper: Shell, cluster: Cluster, sans: Iterable[str]) -> str:
    """Put the control plane's certificates into the cluster anew, encrypted; gives the key, good for two hours.

    The key travels in a file: everybody on the host sees the arguments of a process.
    """
    key = secrets.token_hex(32)
    itself = Node(helper.target.name, helper.target.address, "controlplane", helper.target.address)
    try:
        helper.write(UPLOAD, config.init(cluster, itself, sans, key).encode(), 0o600)
        helper.run(
            f"kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print --config {UPLOAD}",
            timeout_s=120,
            secret=True,
        )
    finally:
        helper.remove(UPLOAD)
    return key


def _token(helper: Shell, *, renew: bool) -> str:
    listed = listing(helper.run(f"kubeadm token list --kubeconfig {ADMIN} -o json", secret=True).out)
    good = [] if renew else [token for token in listed if token.serves(datetime.now(UTC))]
    if good:
        return max(good, key=lambda token: token.expires or datetime.max.replace(tzinfo=UTC)).token
    ttl = f"{int(TTL.total_seconds())}s"
    made = helper.run(
        f"kubeadm token create --kubeconfig {ADMIN} --ttl {ttl} --description '{config.DESCRIPTION}'", secret=True
    )
    lines = made.out.split()
    if not lines:
        raise ProtocolError(f"{helper.target.place}: `kubeadm token create` printed no token; run this again")
    return lines[-1]


def listing(text: str) -> tuple[Token, ...]:
    """What `kubeadm token list -o json` prints: one object after the other, without a list around them.

    Raises:
        ProtocolError: it is something else.
    """
    decoder, tokens, rest = json.JSONDecoder(), [], text.strip()
    try:
        while rest:
            item, end = decoder.raw_decode(rest)
            tokens.append(_parsed(item))
            rest = rest[end:].strip()
    except (ValueError, KeyError, TypeError):
        raise ProtocolError("`kubeadm token list -o json` printed no list of tokens; is it another version?") from None
    return tuple(tokens)


def _parsed(item: dict[str, Any]) -> Token:
    expires = item.get("expires")
    return Token(
        token=str(item["token"]),
        description=str(item.get("description") or ""),
        usages=tuple(item.get("usages") or ()),
        expires=datetime.fromisoformat(expires) if expires else None,
    )
