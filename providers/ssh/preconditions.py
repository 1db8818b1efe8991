"""What a Linux host must have before Kubernetes comes: read, compared (pure), and only then changed.

Debian and its kin: Raspberry Pi OS, Ubuntu. Any number of runs changes nothing the second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from providers import pace
from providers.deadline import Deadline
from providers.errors import DeadlineError, RefusedError, UnreachableError
from providers.ssh.client import Host, Target, connect

PACKAGES = ("ca-certificates", "curl", "iptables", "nfs-common", "open-iscsi")
MODULES = ("br_netfilter", "overlay", "iscsi_tcp")
SYSCTLS = {
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.ipv4.ip_forward": "1",
}
CGROUPS = ("cgroup_memory=1", "cgroup_enable=memory")
CMDLINES = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt")
MODULES_FILE = "/etc/modules-load.d/90-homelab.conf"
SYSCTL_FILE = "/etc/sysctl.d/90-homelab.conf"
TIME_FILE = "/etc/systemd/timesyncd.conf.d/90-homelab.conf"
FSTAB = "/etc/fstab"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
INSTALL_S = 900.0
REBOOT_S = 600.0


@dataclass(frozen=True)
class Seen:
    """What a host is like now."""

    packages: frozenset[str]
    modules: frozenset[str]  # loaded
    sysctls: dict[str, str]
    swaps: bool
    fstab: str
    controllers: frozenset[str]  # of cgroups; empty with cgroup v1
    cmdline_file: str  # "" where there is none that we know
    cmdline: str
    synchronizes: bool
    files: dict[str, str] = field(default_factory=dict)  # those that are ours


@dataclass(frozen=True)
class Step:
    """One thing to change: what an owner reads of it, and how."""

    word: str
    act: Callable[[Host], None]


def prepare(target: Target, times: Sequence[str], *, allow_reboot: bool, progress: Callable[[str], None]) -> list[str]:
    """Make a host what Kubernetes needs. Says what was changed; nothing, where all was right.

    Raises:
        RefusedError: it is no Debian, or needs a reboot that is not allowed.
        UnreachableError, DeadlineError: it did not answer, or did not come back.
    """
    done: list[str] = []
    with connect(target, pace.limit(180)) as host:
        seen = observe(host)
        for step in plan(seen, times):
            progress(step.word)
            step.act(host)
            done.append(step.word)
        if not reboots(seen):
            return done
        change = _cgroups(host, seen, allow_reboot=allow_reboot)
        boot = (host.read(BOOT_ID) or b"").decode().strip()
        progress(f"reboots: {change}")
        host.run("systemctl reboot", check=False)
    _back(target, boot)
    return [*done, change]


def observe(host: Host) -> Seen:
    """Look at everything, change nothing. Raises RefusedError for a system that is not known."""
    release = _text(host, "/etc/os-release")
    words = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    kin = f"{words.get('ID', '')} {words.get('ID_LIKE', '')}".replace('"', "").split()
    if "debian" not in kin:
        raise RefusedError(
            f"{host.target.place}: runs {words.get('PRETTY_NAME', 'an unknown system')}, and only Debian and its kin "
            "(Raspberry Pi OS, Ubuntu) are prepared; write another card"
        )
    installed = host.run(f"dpkg-query -W -f '${{Package}} ${{db:Status-Abbrev}}\\n' {' '.join(PACKAGES)}", check=False)
    lines = [line.split() for line in installed.out.splitlines()]
    file = next((path for path in CMDLINES if host.read(path) is not None), "")
    return Seen(
        packages=frozenset(line[0] for line in lines if line[1:] == ["ii"]),
        modules=frozenset(line.split()[0] for line in _text(host, "/proc/modules").splitlines()),
        sysctls={key: _text(host, f"/proc/sys/{key.replace('.', '/')}").strip() for key in SYSCTLS},
        swaps=len(_text(host, "/proc/swaps").splitlines()) > 1,
        fstab=_text(host, FSTAB),
        controllers=frozenset(_text(host, "/sys/fs/cgroup/cgroup.controllers").split()),
        cmdline_file=file,
        cmdline=_text(host, file).strip() if file else "",
        synchronizes=host.run("timedatectl show -p NTP --value", check=False).out.strip() == "yes",
        files={path: _text(host, path) for path in (MODULES_FILE, SYSCTL_FILE, TIME_FILE)},
    )


def plan(seen: Seen, times: Sequence[str]) -> list[Step]:
    """What to change, in order; empty where all is right."""
    steps: list[Step] = []
    if missing := [name for name in PACKAGES if name not in seen.packages]:
        steps.append(Step(f"installs {', '.join(missing)}", lambda host: _install(host, missing)))
    if seen.swaps or "swap" in {_kind(line) for line in seen.fstab.splitlines()}:
        steps.append(Step("swap off", lambda host: _no_swap(host, seen.fstab)))
    modules = "".join(f"{name}\n" for name in MODULES)
    absent = [name for name in MODULES if name not in seen.modules]
    if absent or seen.files[MODULES_FILE] != modules:
        steps.append(Step(f"modules {', '.join(absent or MODULES)}", lambda host: _load(host, modules)))
    sysctls = "".join(f"{key}={value}\n" for key, value in SYSCTLS.items())
    if seen.sysctls != SYSCTLS or seen.files[SYSCTL_FILE] != sysctls:
        steps.append(Step("sysctls", lambda host: _set(host, sysctls)))
    servers = f"[Time]\nNTP={' '.join(times)}\n" if times else ""
    if seen.files[TIME_FILE] != servers or not seen.synchronizes:
        steps.append(Step("time by NTP", lambda host: _tell_time(host, servers)))
    return steps


def reboots(seen: Seen) -> bool:
    """Whether the kernel has to be told at boot that memory is to be accounted for."""
    return bool(seen.controllers) and "memory" not in seen.controllers


def commented(fstab: str) -> str:
    """The table with its swap lines commented out."""
    return "".join(
        f"# {line} # by homelab: Kubernetes runs without swap\n" if _kind(line) == "swap" else f"{line}\n"
        for line in fstab.splitlines()
    )


def with_cgroups(cmdline: str) -> str:
    """A kernel's command line that asks for the memory controller."""
    words = [word for word in cmdline.split() if word != "cgroup_disable=memory"]
    return " ".join([*words, *(word for word in CGROUPS if word not in words)])


def _kind(line: str) -> str:
    words = line.split()
    return words[2] if len(words) > 2 and not line.lstrip().startswith("#") else ""


def _text(host: Host, path: str) -> str:
    return (host.read(path) or b"").decode(errors="replace")


def _install(host: Host, names: Sequence[str]) -> None:
    host.run("apt-get update -q", timeout_s=pace.limit(INSTALL_S))
    command = f"env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends {' '.join(names)}"
    host.run(command, timeout_s=pace.limit(INSTALL_S))
    if "open-iscsi" in names:
        host.run("systemctl enable --now iscsid")


def _no_swap(host: Host, fstab: str) -> None:
    host.write(FSTAB, commented(fstab).encode())
    host.run("swapoff -a")
    if host.run("systemctl is-enabled dphys-swapfile", check=False).code == 0:
        host.run("systemctl disable --now dphys-swapfile")


def _load(host: Host, modules: str) -> None:
    host.write(MODULES_FILE, modules.encode())
    for name in modules.split():
        host.run(f"modprobe {name}")


def _set(host: Host, sysctls: str) -> None:
    host.write(SYSCTL_FILE, sysctls.encode())
    host.run(f"sysctl -p {SYSCTL_FILE}")


def _tell_time(host: Host, servers: str) -> None:
    if servers:
        host.write(TIME_FILE, servers.encode())
    else:
        host.remove(TIME_FILE)
    host.run("timedatectl set-ntp true")
    host.run("systemctl restart systemd-timesyncd")


def _cgroups(host: Host, seen: Seen, *, allow_reboot: bool) -> str:
    place = host.target.place
    if not seen.cmdline_file:
        raise RefusedError(
            f"{place}: its kernel accounts for no memory (cgroups), and no {' or '.join(CMDLINES)} is there to say so; "
            f"add {' '.join(CGROUPS)} to its kernel's command line and reboot it"
        )
    wanted = with_cgroups(seen.cmdline)
    if wanted == seen.cmdline and "memory" not in seen.controllers and not allow_reboot:
        raise RefusedError(f"{place}: waits for a reboot to account for memory; type `{host.target.login} reboot`")
    if not allow_reboot:
        raise RefusedError(
            f"{place}: {seen.cmdline_file} needs {' '.join(CGROUPS)} and a reboot; write "
            f"hosts.{host.target.name}.allow_reboot: true"
        )
    host.write(seen.cmdline_file, f"{wanted}\n".encode(), 0o755)
    return f"memory cgroups in {seen.cmdline_file}"


def _back(target: Target, before: str) -> None:
    """Wait until the host answers in another boot."""

    def probe() -> bool | None:
        try:
            with connect(target, 5) as host:
                now = (host.read(BOOT_ID) or b"").decode().strip()
        except UnreachableError:
            return None
        return True if now and now != before else None

    try:
        Deadline(pace.limit(REBOOT_S)).poll(probe, target.place, pace.interval(2))
    except DeadlineError:
        raise DeadlineError(
            f"{target.place}: did not come back from its reboot within {pace.limit(REBOOT_S):.0f} s; look at its "
            "screen, then run this again"
        ) from None
