"""HAProxy and keepalived on a host: installed, given their files, and taken off again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from providers.balancer.config import Front, Sharing, haproxy, keepalived
from providers.errors import ForeignNodeError
from providers.kubeadm.host import Shell, interface

HAPROXY = "/etc/haproxy/haproxy.cfg"
KEEPALIVED = "/etc/keepalived/keepalived.conf"
OURS = b"# Written by homelab."
INSTALL_S = 900.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What a host shall do: pass requests on, and share the VIP (its interface is found on the host)."""

    front: Front
    sharing: Sharing

    def files(self, link: str) -> dict[str, bytes]:
        """The files by path."""
        vrrp = keepalived(self.front.name, replace(self.sharing, interface=link), self.front.status)
        return {HAPROXY: haproxy(self.front).encode(), KEEPALIVED: vrrp.encode()}


def ensure(host: Shell, wish: Wish, progress: Progress) -> list[str]:
    """Install both and have them run with these files; says which services were restarted.

    Raises:
        ForeignNodeError: the host has a balancer of somebody else's.
        RefusedError: one of them does not take its file; the running ones go on with their old ones.
        ProtocolError: the host has no interface with the address that the settings name.
    """
    refuse_foreign(host)
    files = wish.files(interface(host, wish.sharing.address))
    changed = [path for path, text in files.items() if host.read(path) != text]
    # The files come first: whatever is there after that is ours, however far an interrupted run came.
    for path, text in files.items():
        host.write(path, text)
    if not _installed(host):
        progress("installing HAProxy and keepalived")
        host.run("apt-get update -q", timeout_s=INSTALL_S)
        keep = "-oDpkg::Options::=--force-confold"
        host.run(f"apt-get install -qy {keep} curl haproxy keepalived", timeout_s=INSTALL_S)
    host.run(f"haproxy -c -q -f {HAPROXY}")
    host.run(f"keepalived -t -f {KEEPALIVED}")
    host.run("systemctl enable haproxy keepalived")
    return [
        name
        for name, path in (("haproxy", HAPROXY), ("keepalived", KEEPALIVED))
        if _serves(host, name, path in changed)
    ]


def _serves(host: Shell, service: str, changed: bool) -> bool:
    """Have a service run with its present file; says whether it was (re)started. A reload keeps connections."""
    if host.run(f"systemctl is-active {service}", check=False).code != 0:
        host.run(f"systemctl restart {service}")
        return True
    if changed:
        host.run(f"systemctl reload {service}")
    return changed


def drift(host: Shell, wish: Wish) -> str:
    """What is not as wished, in words; "" where all is."""
    files = wish.files(interface(host, wish.sharing.address))
    words = [f"{path} was changed" for path, text in files.items() if host.read(path) != text]
    for service in ("haproxy", "keepalived"):
        if host.run(f"systemctl is-active {service}", check=False).code != 0:
            words += [f"{service} does not run"]
    return ", ".join(words)


def remove(host: Shell) -> None:
    """Stop both, keepalived first so that the VIP goes to another host; files go, packages stay."""
    for service, path in (("keepalived", KEEPALIVED), ("haproxy", HAPROXY)):
        text = host.read(path)
        if text is None or not text.startswith(OURS):
            continue
        host.run(f"systemctl disable --now {service}", check=False)
        host.remove(path)


def refuse_foreign(host: Shell) -> None:
    """Raise ForeignNodeError where somebody else's files would be overwritten."""
    for path in (HAPROXY, KEEPALIVED):
        text = host.read(path)
        if text is not None and not text.startswith(OURS):
            raise ForeignNodeError(
                f"{host.target.place}: {path} is not this program's; nothing was done. If that service may go, type "
                f"`{host.target.login} mv {path} {path}.before`, then run this again"
            )


def _installed(host: Shell) -> bool:
    return all(host.run(f"{name} -v", check=False).code == 0 for name in ("haproxy", "keepalived"))
