"""The etcd service of a control plane: a real etcd member under the certificates of the applied config (facts B4)."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twin.talos.api import etcd_pb2 as pb
from twin.talos.etcd_client import EtcdClient, EtcdError
from twin.talos.pki import Pair, client_context, issue, write_secret
from twin.talos.process import Process, program
from twin.talos.registry import lan

if TYPE_CHECKING:
    from twin.talos.os import Os

_POLL_S = 0.2
PEER_PORT = 2380


@dataclass(frozen=True)
class Recovery:
    """A bootstrap from the uploaded snapshot; `skip_hash` for a file that is no snapshot but a copy of a database."""

    skip_hash: bool


class Etcd:
    """Waits in Preparing until it is bootstrapped or finds members to join, then runs."""

    def __init__(self, system: Os) -> None:
        self.system = system
        self.data = system.machine.disk.ephemeral / "etcd"
        self.snapshot = system.machine.disk.ephemeral / "etcd.snapshot"
        self.member_id: int | None = None
        self.process: Process | None = None
        self.left = False
        self.voting = False
        self._bootstrap = asyncio.Event()
        self._recovery: Recovery | None = None
        self._checks: EtcdClient | None = None  # kept open: the VIP's campaign asks several times a second

    @property
    def has_data(self) -> bool:
        """Whether the data directory holds a member: bootstrapped or joined at some time."""
        if self._bootstrap.is_set():
            return True
        wal = self.data / "member" / "wal"
        return wal.is_dir() and any(wal.iterdir())

    @property
    def running(self) -> bool:
        """Whether the member's process runs."""
        return self.process is not None and self.process.running

    @property
    def peer_url(self) -> str:
        """Where other members reach this one."""
        return f"https://{self.system.address}:{PEER_PORT}"

    def client(self, address: str | None = None, timeout_s: float = 5) -> EtcdClient:
        """A client of this member or of another one, with this node's certificate."""
        leaf = self.system.etcd_leaf
        context = client_context(self.system.authority("cluster", "etcd", "ca").crt, leaf, http2=True)
        return EtcdClient(address or self.system.address, context, timeout_s)

    def bootstrap(self, recovery: Recovery | None = None) -> None:
        """Make this member the first of a new cluster, empty or from the uploaded snapshot."""
        self._recovery = recovery
        self.system.service("etcd", "Finished", "Bootstrap requested")
        self._bootstrap.set()

    async def run(self) -> None:
        """The service's life; ends when the member votes. The process goes on under its supervisor."""
        self.system.service("etcd", "Preparing")
        await self._wait_for_address()
        if self._bootstrap.is_set() or not self.has_data:
            await self._enter()
        else:
            await self._start([])
        await self._become_healthy()

    def kill(self) -> None:
        """The node lost its power."""
        self._down()
        if self.process is not None:
            self.process.kill()

    async def stop(self) -> None:
        """The node shuts down in order."""
        self._down()
        if self.process is not None:
            await self.process.stop()

    async def leave(self) -> None:
        """Leave the cluster and forget the data. Raises EtcdError for the last member or without quorum."""
        async with self.client() as client:
            members = await client.members()
            if len(members) <= 1:
                raise EtcdError("unable to leave: this is the last member of the cluster")
            own = (await client.status()).header.member_id
            await client.remove(own)
        self.left = True
        self._down()
        if self.process is not None:
            await self.process.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self.system.service("etcd", "Finished")

    async def healthy(self) -> bool:
        """Whether this member answers and there is quorum."""
        if not self.running:
            return False
        if self._checks is None:
            self._checks = self.client(timeout_s=2)
        try:
            await self._checks.members()
        except EtcdError:
            return False
        return True

    def _down(self) -> None:
        self.voting = False
        if self._checks is not None:
            self._checks.close()
            self._checks = None

    async def _wait_for_address(self) -> None:
        """Etcd starts only on an address within the advertised subnets (FAILURE-MODES 4b.13)."""
        while not self._address_allowed():
            self.system.service("etcd", "Preparing", "no address matches the advertised subnets")
            await asyncio.sleep(_POLL_S)

    def _address_allowed(self) -> bool:
        subnets = [str(item) for item in self.system.at("cluster", "etcd", "advertisedSubnets", default=[])]
        return allowed(self.system.address, subnets)

    async def _enter(self) -> None:
        self.system.machine.uart(
            "[talos] etcd is waiting to join the cluster, if this node is the first node in the cluster, "
            "please run `talosctl bootstrap`\n"
        )
        while True:
            if self._bootstrap.is_set() and await self._start_first():
                return
            initial = await self._join()
            if initial is not None:
                await self._start(["--initial-cluster-state=existing", f"--initial-cluster={initial}"])
                if await self._took_part():
                    return
            await asyncio.sleep(_POLL_S)

    async def _start_first(self) -> bool:
        """Whether etcd began; if its snapshot is of no use, the service has failed and waits for another bootstrap."""
        recovery, self._recovery = self._recovery, None
        if recovery is None:
            initial = f"{self.system.hostname}={self.peer_url}"
            await self._start(["--initial-cluster-state=new", f"--initial-cluster={initial}"])
            return True
        problem = await self._restore(recovery)
        if problem:
            self._bootstrap.clear()
            shutil.rmtree(self.data, ignore_errors=True)
            said = problem.replace(str(self.snapshot), "/var/lib/etcd.snapshot")
            self.system.service("etcd", "Failed", f"Failed to run pre stage: {said}")
            await self._bootstrap.wait()
            return False
        await self._start([])
        return True

    async def _restore(self, recovery: Recovery) -> str:
        """Make the data from the uploaded snapshot, with etcd's own tool; what is wrong with it, in Talos' words."""
        self.system.service("etcd", "Preparing", "recovering from the snapshot")
        tool = program(self.system.lab.tools, "etcdutl")
        code, said = await _told([tool, "snapshot", "status", str(self.snapshot), "--write-out=json"])
        if code:
            return f"error verifying snapshot: {said}"
        shutil.rmtree(self.data, ignore_errors=True)
        code, said = await _told([
            tool, "snapshot", "restore", str(self.snapshot), f"--skip-hash-check={str(recovery.skip_hash).lower()}",
            f"--data-dir={self.data}", f"--name={self.system.hostname}",
            f"--initial-cluster={self.system.hostname}={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
        ])  # fmt: skip
        if code:
            return f"error recovering from the snapshot: {said}"
        self.snapshot.unlink()
        return ""

    async def _join(self) -> str | None:
        """Become a learner of the cluster that peers run; its member list for etcd, None while there is none."""
        for peer in lan(self.system.lab).control_planes(self.system):
            if peer is self.system or peer.etcd is None or not peer.etcd.voting:
                continue
            try:
                return await self._added(peer.address)
            except EtcdError as error:
                self.system.service("etcd", "Preparing", f"can't join: {error}")
        return None

    async def _added(self, address: str) -> str:
        async with self.client(address) as client:
            members = await client.members()
            if not any(self.peer_url in member.peer_urls for member in members):
                self.member_id, members = await client.add_learner(self.peer_url)
        return ",".join(f"{self._name(member)}={url}" for member in members for url in member.peer_urls)

    def _name(self, member: pb.Member) -> str:
        if self.peer_url in member.peer_urls:
            return self.system.hostname
        return member.name or f"unnamed-{member.id:x}"

    async def _took_part(self) -> bool:
        """Whether etcd accepted the member list; a list that changed meanwhile makes it exit, and we ask again."""
        for _ in range(50):
            await asyncio.sleep(_POLL_S)
            if self.has_data and self.running:
                return True
            if self.process is None or self.process.starts > 1:
                break
        if self.process is not None:
            self.process.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        return False

    async def _start(self, extra: list[str]) -> None:
        fault = self.system.fault("etcd-slow")
        if fault is not None:
            await self.system.lab.clock.sleep(fault.number("for_s", 60))
        self.system.service("etcd", "Starting")
        self.data.mkdir(mode=0o700, exist_ok=True)
        argv = [program(self.system.lab.tools, "etcd"), *self._flags(), *extra]
        self.process = Process(argv, self.system.logs / "etcd.log")
        self.system.serve(self.process)

    def _flags(self) -> list[str]:
        folder, address = self.system.run_folder("etcd"), self.system.address
        files = write_certificates(folder, self.system.authority("cluster", "etcd", "ca"), self.system.hosts())
        client = f"https://{address}:2379"
        flags = {
            "name": self.system.hostname, "data-dir": str(self.data),
            "listen-client-urls": client, "advertise-client-urls": client,
            "listen-peer-urls": self.peer_url, "initial-advertise-peer-urls": self.peer_url,
            "client-cert-auth": "true", "peer-client-cert-auth": "true",
            "trusted-ca-file": str(files / "ca.crt"), "peer-trusted-ca-file": str(files / "ca.crt"),
            "cert-file": str(files / "server.crt"), "key-file": str(files / "server.key"),
            "peer-cert-file": str(files / "peer.crt"), "peer-key-file": str(files / "peer.key"),
            "log-level": "error",
            # A power cut here kills the process, never the machine that keeps the files: syncing them is only slow.
            "unsafe-no-fsync": "true",
            **{key: str(value) for key, value in self.system.at("cluster", "etcd", "extraArgs", default={}).items()},
        }  # fmt: skip
        return [f"--{key}={value}" for key, value in flags.items() if key != "listen-metrics-urls"]

    async def _become_healthy(self) -> None:
        while not await self._votes():
            await asyncio.sleep(_POLL_S)
        self.voting = True
        self.system.service("etcd", "Running", healthy=True)
        self.system.emit("etcd_started", member=f"{self.member_id or 0:x}")

    async def _votes(self) -> bool:
        try:
            async with self.client(timeout_s=2) as client:
                status = await client.status()
                self.member_id = status.header.member_id
                if not status.is_learner:
                    await client.members()
                    return True
            await self._promote()
        except EtcdError:
            pass
        return False

    async def _promote(self) -> None:
        if self.system.standing("member-stuck") is not None:
            return
        for peer in lan(self.system.lab).control_planes(self.system):
            if peer is not self.system and peer.etcd is not None and peer.etcd.voting:
                async with self.client(peer.address, timeout_s=2) as client:
                    await client.promote(self.member_id or 0)
                return


async def _told(argv: list[str]) -> tuple[int, str]:
    """A tool's exit code and its last words."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL, stderr=pipe)
    _, said = await child.communicate()
    lines = said.decode(errors="replace").strip().splitlines()
    return child.returncode or 0, lines[-1].removeprefix("Error: ") if lines else ""


def allowed(address: str, subnets: list[str]) -> bool:
    """Whether an address fits Talos' subnet filter: `!` excludes, no positive entry means any."""
    here = ipaddress.ip_address(address)
    networks = [ipaddress.ip_network(item.removeprefix("!"), strict=False) for item in subnets]
    refused = [network for network, item in zip(networks, subnets, strict=True) if item.startswith("!")]
    wanted = [network for network, item in zip(networks, subnets, strict=True) if not item.startswith("!")]
    return not any(here in network for network in refused) and (
        not wanted or any(here in network for network in wanted)
    )


def write_certificates(folder: Path, ca: Pair, hosts: list[str]) -> Path:
    """Etcd's server and peer certificates, as files for its flags."""
    (folder / "ca.crt").write_bytes(ca.crt)
    for name in ("server", "peer"):
        leaf = issue(ca, hosts[0], hosts=hosts, server=True, client=True)
        (folder / f"{name}.crt").write_bytes(leaf.crt)
        write_secret(folder / f"{name}.key", leaf.key)
    return folder
