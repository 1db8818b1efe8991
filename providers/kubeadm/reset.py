"""Gives a host back: `kubeadm reset`, and what that leaves behind."""

from __future__ import annotations

import re

from providers.kubeadm.config import CRI_SOCKET
from providers.kubeadm.host import ADMIN, CLAIM, CNI, ETCD, K3S, Shell

RESET_S = 600.0
K3S_SCRIPTS = ("/usr/local/bin/k3s-uninstall.sh", "/usr/local/bin/k3s-agent-uninstall.sh")
FOLDERS = (
    K3S,
    "/etc/rancher",
    CNI,
    "/var/lib/cni",
    "/run/flannel",
    "/run/cilium",
    "/var/lib/kubelet",
    ETCD,
    "/etc/kubernetes",
)
LINKS = ("cni0", "flannel.1", "cilium_host", "cilium_net", "cilium_vxlan", "kube-ipvs0", "kube-bridge")
# Chains and rules that kube-proxy, CNI plugins, flannel and Cilium made; the owner's own stay.
_RULES = re.compile(r"KUBE-|CNI-|FLANNEL|flannel|CILIUM")


def reset(host: Shell) -> None:
    """Take Kubernetes off a host, its cluster's data included; any number of times. Packages stay.

    The cluster is not told: whoever calls this has taken the host out of it before.

    Raises:
        RefusedError: `kubeadm reset` failed; says its last words.
    """
    if host.run("kubeadm version -o short", check=False).code == 0:
        # Without this one kubeadm asks the cluster about the host's member of etcd, for minutes when that is gone.
        host.remove(ADMIN)
        host.run(f"kubeadm reset --force --cri-socket {CRI_SOCKET} --cleanup-tmp-dir", timeout_s=RESET_S)
    host.run("systemctl disable --now kubelet", check=False)
    for script in K3S_SCRIPTS:
        if host.read(script) is not None:
            host.run(f"sh {script}", timeout_s=RESET_S)
    for link in LINKS:
        host.run(f"ip link delete {link}", check=False)
    for tables in ("iptables", "ip6tables"):
        _without_rules(host, tables)
    host.run("ipvsadm --clear", check=False)
    for folder in FOLDERS:
        host.remove(folder)
    host.remove(CLAIM)


def _without_rules(host: Shell, tables: str) -> None:
    """Load the rules of a family without those of Kubernetes; a host without that program has none."""
    saved = host.run(f"{tables}-save", check=False)
    kept = [line for line in saved.out.splitlines(keepends=True) if not _RULES.search(line)]
    if saved.code == 0 and len(kept) < len(saved.out.splitlines()):
        host.run(f"{tables}-restore", stdin="".join(kept).encode(), check=False)
