"""Has a host carry containerd, kubelet, kubeadm and kubectl at exact versions, from Kubernetes' own repository."""

from __future__ import annotations

from providers.errors import RefusedError
from providers.kubeadm.host import Shell
from providers.kubeadm.wish import minor

REPOSITORY = "https://pkgs.k8s.io/core:/stable:"
KEYRING = "/etc/apt/keyrings/kubernetes.asc"
SOURCE = "/etc/apt/sources.list.d/kubernetes.list"
CONTAINERD = "/etc/containerd/config.toml"
PROGRAMS = ("kubeadm", "kubelet", "kubectl")
INSTALL_S = 900.0

# The packaged default switches the kubelet's side off, or leaves cgroups to containerd. 1.6 and later read version 2.
_CONTAINERD = """\
# Written by homelab. A change by hand is taken back by the next `up`.
version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
"""


def ensure(host: Shell, version: str, repository: str = REPOSITORY) -> bool:
    """Install what is missing or of another version; says whether anything was.

    Raises:
        RefusedError: the host's package manager did not do it, or the programs are another version afterwards.
    """
    changed = False
    if installed(host) != version:
        _install(host, version, repository)
        changed = True
    if host.write(CONTAINERD, _CONTAINERD.encode()):
        host.run("systemctl restart containerd")
        changed = True
    host.run("systemctl enable --now containerd kubelet")
    return changed


def installed(host: Shell) -> str:
    """The version of kubeadm on a host, as in "v1.36.1"; "" without one."""
    answer = host.run("kubeadm version -o short", check=False)
    return answer.out.strip() if answer.code == 0 else ""


def _install(host: Shell, version: str, repository: str) -> None:
    base = f"{repository}/{minor(version)}/deb/"
    host.run("mkdir -p /etc/apt/keyrings")
    host.run(f"curl -fsSL --retry 3 -o {KEYRING} {base}Release.key", timeout_s=120)
    host.write(SOURCE, f"deb [signed-by={KEYRING}] {base} /\n".encode())
    host.run("apt-get update -q", timeout_s=INSTALL_S)
    wanted = " ".join(f"'{program}={version.removeprefix('v')}-*'" for program in PROGRAMS)
    host.run(
        f"apt-get install -qy --allow-change-held-packages containerd {wanted}",
        timeout_s=INSTALL_S,
    )
    host.run(f"apt-mark hold {' '.join(PROGRAMS)}")
    if (found := installed(host)) != version:
        raise RefusedError(
            f"{host.target.place}: kubeadm is {found or 'not there'} after {version} was installed; look with "
            f"`{host.target.login} apt-cache policy kubeadm`"
        )
