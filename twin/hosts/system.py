"""Commands of the system: packages, services, the kernel, time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twin.hosts.shell import Reply, command, said

if TYPE_CHECKING:
    from twin.hosts.host import Host

_KNOWN_PACKAGES = (
    "ca-certificates", "conntrack", "containerd", "cri-tools", "curl", "haproxy", "iptables", "keepalived", "kubeadm",
    "kubectl", "kubelet", "nfs-common", "open-iscsi", "psmisc", "socat", "ethtool",
)  # fmt: skip
_KNOWN_MODULES = ("br_netfilter", "overlay", "iscsi_tcp", "nf_conntrack", "vxlan", "ip_vs")


@command("id")
def identity(_host: Host, _argv: list[str], _stdin: bytes) -> Reply:
    """Root, always: whoever is not, was not let through."""
    return said("0\n")


@command("uname")
def uname(_host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """Machine or kernel."""
    return said({"-m": "aarch64\n", "-r": "6.12.25+rpt-rpi-v8\n"}.get(argv[0] if argv else "", "Linux\n"))


@command("hostname")
def hostname(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """Its name."""
    return said(host.read("/etc/hostname"))


@command("hostnamectl")
def hostnamectl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`hostnamectl set-hostname NAME`."""
    if argv[:1] != ["set-hostname"]:
        return said("hostnamectl: the twin knows set-hostname\n", 1)
    host.put("/etc/hostname", f"{argv[1]}\n")
    return Reply()


@command("dpkg-query")
def dpkg_query(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`dpkg-query -W -f FORMAT PACKAGE...`: a line for each that is installed."""
    asked = argv[3:]
    missing = [name for name in asked if name not in host.packages]
    out = "".join(f"{name} ii\n" for name in asked if name in host.packages)
    err = "".join(f"dpkg-query: no packages found matching {name}\n" for name in missing)
    return Reply(1 if missing else 0, out.encode(), err.encode())


@command("apt-get")
def apt_get(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`update`, `install` and `remove`."""
    verbs = [word for word in argv if not word.startswith("-")]
    match verbs[:1]:
        case ["update"]:
            return Reply()
        case ["install"]:
            names = [name.partition("=")[0] for name in verbs[1:]]
            if unknown := [name for name in names if name not in (*_KNOWN_PACKAGES, *host.spec.packages)]:
                return said(f"E: Unable to locate package {unknown[0]}\n", 100)
            host.packages |= set(names)
            host.emit("packages_installed", packages=names)
            return Reply()
        case ["remove" | "purge"]:
            host.packages -= set(verbs[1:])
            return Reply()
    return said(f"E: Invalid operation {' '.join(verbs)}\n", 100)


@command("apt-mark")
def apt_mark(_host: Host, _argv: list[str], _stdin: bytes) -> Reply:
    """Holds are taken and mean nothing here."""
    return Reply()


@command("systemctl")
async def systemctl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """The verbs on units, `daemon-reload` and `reboot`."""
    verb, *rest = [word for word in argv if not word.startswith("-")] or [""]
    names = [name.removesuffix(".service") for name in rest]
    if verb == "reboot":
        host.lab.spawn(host.reboot(), f"{host.name} reboots")
        return Reply()
    if verb == "daemon-reload":
        return Reply()
    if verb in ("is-active", "is-enabled"):
        return _asked(host, verb, names)
    if verb not in ("start", "stop", "restart", "enable", "disable", "reload", "reset-failed"):
        return said(f"Unknown command verb {verb}.\n", 1)
    for name in names:
        if not host.units.exists(name) and verb != "reset-failed":
            return said(f"Failed to {verb} {name}.service: Unit {name}.service not found.\n", 5)
        if not await _done(host, verb, name, now="--now" in argv, wait="--no-block" not in argv):
            return said(f"Job for {name}.service failed because the control process exited with error code.\n", 1)
    return Reply()


def _asked(host: Host, verb: str, names: list[str]) -> Reply:
    if verb == "is-active":
        states = [host.units.state(name) for name in names]
        return Reply(0 if "active" in states else 3, "".join(f"{state}\n" for state in states).encode())
    enabled = [name in host.units.enabled and host.units.exists(name) for name in names]
    return Reply(0 if any(enabled) else 1, "".join("enabled\n" if one else "disabled\n" for one in enabled).encode())


async def _done(host: Host, verb: str, name: str, *, now: bool, wait: bool) -> bool:
    units = host.units
    if verb == "enable":
        units.enabled.add(name)
    if verb == "disable":
        units.enabled.discard(name)
    if verb in ("stop", "restart") or (verb == "disable" and now):
        await units.stop(name)
    if verb in ("start", "restart") or (verb == "enable" and now):
        if wait:
            return await units.start(name)
        units.begin(name)
    return True


@command("journalctl")
def journalctl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """The last words of a unit."""
    unit = argv[argv.index("-u") + 1] if "-u" in argv else ""
    return said(host.read(f"/var/log/{unit}.log"))


@command("modprobe")
def modprobe(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """Load modules."""
    for name in [word for word in argv if not word.startswith("-")]:
        if name not in _KNOWN_MODULES:
            return said(f"modprobe: FATAL: Module {name} not found in directory /lib/modules/6.12\n", 1)
        host.modules.add(name)
    host.show_modules()
    return Reply()


@command("sysctl")
def sysctl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`sysctl -p FILE`."""
    if argv[:1] != ["-p"] or len(argv) != 2:
        return said("sysctl: the twin knows `sysctl -p FILE`\n", 1)
    for line in host.read(argv[1]).splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            host.sysctls[key.strip()] = value.strip()
    host.show_modules()
    return Reply()


@command("swapoff")
def swapoff(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`swapoff -a`."""
    host.show_swap()
    return Reply()


@command("timedatectl")
def timedatectl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`show -p NTP --value` and `set-ntp true`."""
    if argv[:1] == ["show"]:
        return said("yes\n" if host.ntp else "no\n")
    if argv[:1] == ["set-ntp"]:
        if "systemd-timesyncd" not in host.packages:
            return said("Failed to set ntp: NTP not supported\n", 1)
        host.ntp = argv[1] == "true"
        return Reply()
    return said(f"Unknown command verb {argv[0] if argv else ''}.\n", 1)
