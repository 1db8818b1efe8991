"""One host: its files in a private folder, what its kernel has in memory, and its services."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from pathlib import Path, PurePosixPath

from twin.hosts.lab import HostSpec, Lab
from twin.hosts.units import Units

_CMDLINE = "/boot/firmware/cmdline.txt"
_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
_SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


class Host:
    """One machine. Without power it has its files only."""

    def __init__(self, lab: Lab, name: str, spec: HostSpec) -> None:
        self.lab = lab
        self.name = name
        self.spec = spec
        self.address = str(spec.address)
        self.root = lab.folder / name / "root"
        self.logs = lab.folder / name / "log"
        self.on = False
        self.boots = 0
        self.boot_id = ""
        self.packages: set[str] = set(spec.packages)
        self.modules: set[str] = set()
        self.sysctls: dict[str, str] = {"net.ipv4.ip_forward": "0", "vm.overcommit_memory": "0"}
        self.ntp = "systemd-timesyncd" in spec.packages
        self.units = Units(self)
        lab.hosts[name] = self
        if not self.root.exists():
            self._install()

    def path(self, path: str) -> Path:
        """Where a file of the host is on this machine; nothing leads out of its folder."""
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")]
        return self.root.joinpath(*parts)

    def read(self, path: str) -> str:
        """A text file, "" where there is none."""
        found = self.path(path)
        return found.read_text(encoding="utf-8") if found.is_file() else ""

    def put(self, path: str, data: str | bytes, mode: int = 0o644) -> None:
        """Write a file."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)
        target.chmod(mode)

    def emit(self, kind: str, **data: object) -> None:
        """Note in the lab's journal what happened here."""
        self.lab.events.emit(kind, node=self.name, **data)

    async def boot(self) -> None:
        """Power: the kernel reads its command line and tables, then enabled services start."""
        self.on, self.boots, self.boot_id = True, self.boots + 1, str(uuid.uuid4())
        self._kernel()
        self.emit("boot", boots=self.boots)
        await self.units.boot()

    async def cut(self) -> None:
        """No more power."""
        self.on = False
        await self.units.kill()
        self.emit("power_off")

    async def reboot(self) -> None:
        """Services stop in order, and after a while it is back."""
        await asyncio.sleep(0.1)  # the answer to the command that asked for it gets through
        self.on = False
        await self.units.shut_down()
        await asyncio.sleep(self.lab.spec.boot_s)
        await self.boot()

    def show_swap(self) -> None:
        """/proc/swaps follows fstab at boot and `swapoff` later."""
        self.put("/proc/swaps", _SWAPS)

    def wipe(self) -> None:
        """Another card, as its owner set it up: nothing is left but the machine and the host's key."""
        shutil.rmtree(self.root)
        shutil.rmtree(self.logs)
        self.packages, self.ntp = set(self.spec.packages), "systemd-timesyncd" in self.spec.packages
        self.units = Units(self)
        self._install()

    def _install(self) -> None:
        """What the owner's card has: files that are there before anybody logs in."""
        self.root.mkdir(parents=True)
        self.logs.mkdir(parents=True)
        for folder in ("/usr/local/bin", "/var/lib", "/var/log", "/tmp"):  # noqa: S108  # the host's own
            self.path(folder).mkdir(parents=True)
        self.put("/etc/os-release", _RELEASE)
        self.put("/etc/hostname", f"{self.name}\n")
        swap = "/swapfile none swap sw 0 0\n" if self.spec.swap else ""
        self.put("/etc/fstab", f"PARTUUID=1-2 / ext4 defaults,noatime 0 1\n{swap}")
        memory = " cgroup_enable=memory" if self.spec.memory_cgroup else ""
        self.put(_CMDLINE, f"console=tty1 root=PARTUUID=1-2 rootwait{memory}\n")
        for path, content in self.spec.files.items():
            self.put(path, content)

    def _kernel(self) -> None:
        cmdline = self.read(_CMDLINE).strip()
        memory = " memory" if "cgroup_enable=memory" in cmdline.split() else ""
        self.put("/proc/cmdline", f"{cmdline}\n")
        self.put("/sys/fs/cgroup/cgroup.controllers", f"cpuset cpu io{memory} pids\n")
        self.put("/proc/sys/kernel/random/boot_id", f"{self.boot_id}\n")
        self.put("/sys/class/net/eth0/address", f"{self.spec.mac}\n")
        self.show_swap()
        if any(line.split()[2:3] == ["swap"] for line in self.read("/etc/fstab").splitlines() if line[:1] != "#"):
            self.put("/proc/swaps", f"{_SWAPS}/swapfile file 524284 0 -2\n")
        self.modules = set(self._listed("/etc/modules-load.d"))
        for line in self._listed("/etc/sysctl.d"):
            key, _, value = line.partition("=")
            self.sysctls[key.strip()] = value.strip()
        self.show_modules()

    def show_modules(self) -> None:
        """/proc/modules follows what is loaded, and so does what the kernel offers with it."""
        self.put("/proc/modules", "".join(f"{name} 32768 0 - Live 0x0\n" for name in sorted(self.modules)))
        if "br_netfilter" in self.modules:
            self.sysctls.setdefault("net.bridge.bridge-nf-call-iptables", "1")
        for key, value in self.sysctls.items():
            self.put(f"/proc/sys/{key.replace('.', '/')}", f"{value}\n")

    def _listed(self, folder: str) -> list[str]:
        files = sorted(self.path(folder).glob("*.conf")) if self.path(folder).is_dir() else []
        lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    def forget(self, path: str) -> None:
        """Remove a file or a folder."""
        target = self.path(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
