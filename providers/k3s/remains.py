"""What another cluster left on a host: found before anything is touched, removed only with the owner's word."""

from __future__ import annotations

from dataclasses import dataclass

from providers.errors import ForeignNodeError
from providers.k3s import files
from providers.ssh.client import Host

PLACES = (
    "/etc/rancher/k3s",
    "/etc/rancher/node",
    "/var/lib/rancher/k3s",
    "/usr/local/bin/k3s",
    "/etc/kubernetes",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/etc/cni/net.d",
    "/var/lib/cni",
)
UNINSTALL = ("/usr/local/bin/k3s-uninstall.sh", "/usr/local/bin/k3s-agent-uninstall.sh")
_KUBEADM = "/usr/bin/kubeadm"


@dataclass(frozen=True)
class Remains:
    """What is on a host.

    Attributes:
        ours: whether its mark is that of the cluster it shall be in.
        found: files and folders of a cluster that is not ours.
    """

    ours: bool
    found: tuple[str, ...]


def look(host: Host, mark: str, token: str) -> Remains:
    """See whose a host is. Changes nothing."""
    if (host.read(files.MARK) or b"").decode() == mark:
        return Remains(ours=True, found=())
    found = tuple(path for path in PLACES if _holds(host, path))
    stored = (host.read(files.SERVER_TOKEN) or b"").decode().strip()
    if token and stored.rpartition(":")[2] == token:  # a server of ours whose state was lost
        return Remains(ours=True, found=())
    return Remains(ours=False, found=found)


def _holds(host: Host, path: str) -> bool:
    return bool(host.run(f"ls -A -- {path}", check=False).out.strip())


def refuse(host: Host, remains: Remains, *, acknowledged: bool) -> None:
    """Stop here where another cluster's remains are on the host and nobody said that they may go.

    Raises:
        ForeignNodeError: names them, and what to write.
    """
    if remains.found and not acknowledged:
        raise ForeignNodeError(
            f"{host.target.place}: holds what another cluster left: {', '.join(remains.found)}; nothing was touched. "
            f"To remove it with all of its data, raise hosts.{host.target.name}.generation by one"
        )


def remove(host: Host) -> None:
    """Remove everything of k3s, kubeadm and CNIs. What is gone already is no error."""
    for script in UNINSTALL:
        if host.read(script) is not None:
            host.run(f"sh {script}", timeout_s=300)
    if host.read(_KUBEADM) is not None:
        host.run(f"{_KUBEADM} reset --force", timeout_s=300, check=False)
    for path in (*PLACES, files.MARK):
        host.remove(path)
