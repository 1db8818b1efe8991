"""A machine without a disk: iPXE loads a system into its RAM, whose start script and kubelet join a cluster.

Nothing of it outlasts its power. The system is a stand-in of a few bytes (`IMAGE`); its start script is the very one of
images/debian, which writes into the box's folder here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from pathlib import Path

from twin.hosts import ipxe
from twin.hosts.box_kubelet import Start, serve
from twin.hosts.lab import BoxSpec, Lab
from twin.talos.pki import write_secret

START = Path(__file__).parents[2] / "images/debian/mkosi.extra/usr/local/lib/homelab/join"
IMAGE = "twin-root kubelet="  # what an initramfs must begin with, followed by the version of its kubelet
CONFIG = "/homelab.config"  # without it, the start script is not run


class NoBoot(Exception):
    """The machine did not get as far as a running system; the text is its console's last line."""


class Box:
    """One machine. Without power it has nothing."""

    def __init__(self, lab: Lab, name: str, spec: BoxSpec) -> None:
        self.lab = lab
        self.name = name
        self.spec = spec
        self.address = str(spec.address)
        self.root = lab.folder / name / "ram"
        self.logs = lab.folder / name / "log"
        self.on = False
        self.boots = 0
        self.boot_id = ""
        self._life: asyncio.Task[None] | None = None
        self.logs.mkdir(parents=True, exist_ok=True)
        lab.boxes[name] = self

    def emit(self, kind: str, **data: object) -> None:
        """Note in the lab's journal what happened here."""
        self.lab.events.emit(kind, node=self.name, **data)

    async def boot(self, *, network: bool = True) -> None:
        """Power. Its firmware boots from the network when it is told to, and has no disk to boot from otherwise."""
        await self.cut()
        self.on, self.boots, self.boot_id = True, self.boots + 1, str(uuid.uuid4())
        self.emit("boot", boots=self.boots, network=network)
        self._life = self.lab.spawn(self._live(network=network), f"{self.name} system")

    async def cut(self) -> None:
        """No more power: all that it had was in its RAM."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
            self._life = None
        shutil.rmtree(self.root, ignore_errors=True)
        if self.on:
            self.on = False
            self.emit("power_off")

    async def _live(self, *, network: bool) -> None:
        try:
            if not network:
                raise NoBoot("No bootable device")
            start = await self._started(await self._loaded())
        except NoBoot as error:
            self.emit("boot_failed", said=str(error))
            return
        if start is not None:
            await serve(self, start)

    async def _loaded(self) -> ipxe.Loaded:
        await asyncio.sleep(self.lab.spec.boot_s)
        known = ipxe.machine(self.spec.mac, self.address, self.spec.uuid, {"serial": self.name, "product": "twin"})
        loader = ipxe.Ipxe(known, self.wait, self._console)
        loaded = await loader.boot(self.spec.entry)
        if loaded is None:
            raise NoBoot("No more network devices; no bootable device")
        return loaded

    async def wait(self, device_s: float) -> None:
        """Let device time pass."""
        await asyncio.sleep(device_s * self.lab.spec.scale)

    def _console(self, text: str) -> None:
        with (self.logs / "console.log").open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")

    async def _started(self, loaded: ipxe.Loaded) -> Start | None:
        """Unpack what was loaded, and run its start script; None where there is nothing to join."""
        kubelet = _unpacked(loaded)
        self.root.mkdir(parents=True, mode=0o700)
        for path, content in loaded.files.items():
            target = self.root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            write_secret(target, content)
        await asyncio.sleep(self.lab.spec.boot_s)
        self.emit("system_started", kubelet=kubelet)
        if not (self.root / CONFIG.lstrip("/")).exists():
            self.emit("nothing_to_join")
            return None
        if not await self._joins():
            return None
        return Start.read(self.root, self.name, kubelet)

    async def _joins(self) -> bool:
        """The unit homelab-join. It is of type oneshot: when it fails, that is all for this boot."""
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", str(START),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={"HOMELAB_ROOT": str(self.root), "PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        )  # fmt: skip
        try:
            _, said = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
        if child.returncode:
            self.emit("join_failed", said=said.decode(errors="replace").strip().rpartition("\n")[2])
        return child.returncode == 0


def _unpacked(loaded: ipxe.Loaded) -> str:
    """What a kernel does with what it finds in memory; gives the kubelet's version. Raises NoBoot."""
    if not loaded.kernel:
        raise NoBoot("Could not boot image: Exec format error")
    named = [word.partition("=")[2] for word in loaded.cmdline if word.startswith("initrd=")]
    if missing := [name for name in named if name not in loaded.initrds]:  # an EFI kernel loads them by these names
        raise NoBoot(f"EFI stub: failed to load initrd {missing[0]}")
    roots = [content for name, content in loaded.initrds.items() if name in named]
    text = roots[0].decode(errors="replace") if roots else ""
    if not text.startswith(IMAGE):
        raise NoBoot("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)")
    return text.removeprefix(IMAGE).split()[0]
