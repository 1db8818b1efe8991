"""What a host says of itself before anything is done to it. Reading only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from providers.errors import ProtocolError
from providers.ssh.client import Answer, Target

CLAIM = "/etc/homelab/kubeadm.json"  # whose work is on this host, and how far it came
CA = "/etc/kubernetes/pki/ca.crt"
ADMIN = "/etc/kubernetes/admin.conf"
KUBELET = "/etc/kubernetes/kubelet.conf"
MANIFESTS = "/etc/kubernetes/manifests"
ETCD = "/var/lib/etcd"
CNI = "/etc/cni/net.d"
K3S = "/var/lib/rancher/k3s"


class Shell(Protocol):
    """An open connection to a host, as `providers.ssh.client.Host` is one."""

    target: Target

    def run(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 60, check: bool = True, secret: bool = False
    ) -> Answer:
        """Run a command as root."""

    def read(self, path: str) -> bytes | None:
        """A file's content, or None where there is none."""

    def write(self, path: str, data: bytes, mode: int = 0o644) -> bool:
        """Give a file its content; says whether that changed it."""

    def remove(self, path: str) -> None:
        """Remove a file or a folder."""


class Stage(StrEnum):
    """How far this program came with a host; written on it before each step."""

    NONE = ""
    PREPARED = "prepared"
    INIT = "init"
    JOIN = "join"
    DONE = "done"


@dataclass(frozen=True)
class Claim:
    """Whose work a host carries. A host without one was never touched by this program."""

    cluster: str = ""
    stage: Stage = Stage.NONE


@dataclass(frozen=True)
class Seen:
    """What is on a host.

    Attributes:
        claim: our own note.
        ca: the CA of the cluster that it belongs to, PEM; "" without one.
        member: the kubelet has an identity in a cluster.
        control_plane: the API server's manifest is there.
        etcd: etcd has data.
        cni: files of a CNI's config.
        k3s: data of k3s.
    """

    claim: Claim
    ca: str
    member: bool
    control_plane: bool
    etcd: bool
    cni: tuple[str, ...] = ()
    k3s: bool = False

    @property
    def remains(self) -> tuple[str, ...]:
        """What is there of Kubernetes, in words."""
        found = {
            "a cluster's CA": bool(self.ca),
            "a kubelet's identity": self.member,
            "an API server's manifest": self.control_plane,
            "etcd's data": self.etcd,
            f"CNI config ({', '.join(self.cni)})": bool(self.cni),
            "k3s": self.k3s,
        }
        return tuple(word for word, there in found.items() if there)

    def is_whole(self, *, control_plane: bool) -> bool:
        """Whether all of a member's files are there."""
        parts = (self.ca, self.member, *((self.control_plane, self.etcd) if control_plane else ()))
        return all(parts)


def observe(host: Shell) -> Seen:
    """Look at a host. Raises as `Shell.run`; ProtocolError when our own note can't be read."""
    ca = host.read(CA)
    return Seen(
        claim=claim(host),
        ca=ca.decode(errors="replace") if ca else "",
        member=host.read(KUBELET) is not None,
        control_plane=host.read(f"{MANIFESTS}/kube-apiserver.yaml") is not None,
        etcd=bool(_listed(host, ETCD)),
        cni=_listed(host, CNI),
        k3s=bool(_listed(host, K3S)),
    )


def claim(host: Shell) -> Claim:
    """Our note on a host.

    Raises:
        ProtocolError: there is one, and it is not readable.
    """
    text = host.read(CLAIM)
    if text is None:
        return Claim()
    try:
        note = json.loads(text)
        return Claim(str(note["cluster"]), Stage(note["stage"]))
    except (ValueError, KeyError, TypeError):
        raise ProtocolError(
            f"{host.target.place}: {CLAIM} is damaged; nothing was done. Look at it with `{host.target.login} cat "
            f"{CLAIM}`, and remove it if the host is to be set up anew"
        ) from None


def note(host: Shell, cluster: str, stage: Stage) -> None:
    """Write down whose host this is and what is about to be done, before it is done."""
    host.write(CLAIM, json.dumps({"cluster": cluster, "stage": stage.value}).encode(), 0o600)


def ca_hash(pem: str) -> str:
    """The pin of a CA as `kubeadm join` wants it: "sha256:" and the digest of its public key.

    Raises:
        ProtocolError: it is no certificate.
    """
    try:
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except ValueError:
        raise ProtocolError(f"{CA} holds no certificate: it begins with '{pem[:20]}'") from None
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def interface(host: Shell, address: str) -> str:
    """The network interface that has an address.

    Raises:
        ProtocolError: none has; says which addresses there are.
    """
    links = json.loads(host.run("ip -j -4 address show").out or "[]")
    found = {
        entry["local"]: link["ifname"]
        for link in links
        for entry in link.get("addr_info", ())
        if "local" in entry and "ifname" in link
    }
    if address not in found:
        raise ProtocolError(
            f"{host.target.place}: no network interface has the address {address}; there are "
            f"{', '.join(sorted(found)) or 'none'}: give it that address, or correct the settings"
        )
    return str(found[address])


def _listed(host: Shell, folder: str) -> tuple[str, ...]:
    """What is in a folder; nothing where there is none."""
    answer = host.run(f"ls -A {folder}", check=False)
    if answer.code != 0:
        return ()
    # Packages keep their empty folders with hidden files.
    return tuple(sorted(name for name in answer.out.split() if not name.startswith(".")))
