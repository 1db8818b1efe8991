"""A cluster of three by our own clients on the hosts that the twin plays, behind two real HAProxies, without SSH.

The engine's part of it, and SSH, are in `tests/engine/test_kubeadm.py`.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from providers.balancer import hosts as balancers
from providers.balancer.config import Front, Sharing
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import RefusedError, UnreachableError
from providers.kubeadm import backup, bootstrap, certificates, config, machine, membership, upkeep
from providers.kubeadm.hosts import Place
from providers.kubeadm.membership import Party
from providers.kubernetes.client import Kube
from providers.ssh.client import Host as Client
from providers.ssh.client import Target
from providers.talos import origin
from providers.talos.origin import ForeignSnapshotError
from tests.twin.test_kubeadm_hosts import PLAYED
from tests.twin.test_kubeadm_hosts import Place as Rack
from tools import paths
from twin.hosts import shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
REPORT = Reporter("")
PLANES, WORKER, BALANCERS = ("cp1", "cp2", "cp3"), "w1", ("lb1", "lb2")
T = TypeVar("T")
assert PLAYED


class Direct(Client):
    """Our SSH client with the host's own table of commands behind it, and no connection."""

    def __init__(self, target: Target, lab: Lab) -> None:
        self.target, self._lab = target, lab

    def _raw(self, command: str, stdin: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        host = self._lab.rack.hosts[self.target.name]
        reply = self._lab.wait(shell.run(host, "root", command, stdin), timeout_s)
        return reply.code, reply.out, reply.err


class Lab:
    """The hosts on a loop of their own."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.rack = self.wait(self._made(folder))
        self.cluster = self.rack.cluster
        self.places = {name: self.place(name) for name in (*PLANES, WORKER)}
        self.planes = {name: self.places[name] for name in PLANES}
        self.kubeconfig = ""

    async def _made(self, folder: Path) -> Rack:
        rack = Rack(folder, (*PLANES, WORKER, *BALANCERS))
        for host in rack.hosts.values():
            await host.boot()
            host.sysctls["net.ipv4.ip_forward"] = "1"
        return rack

    def wait(self, work: Coroutine[Any, Any, T], limit_s: float = 120) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(limit_s)

    def place(self, name: str) -> Place:
        role = "controlplane" if name in PLANES else "worker"
        target = Target(name, self.rack.hosts[name].address, "ssh-ed25519 AAAA", "key")
        return Place(self.rack.node(name, role), target)

    @contextmanager
    def dial(self, target: Target, timeout_s: float = 60) -> Iterator[Direct]:
        if not self.rack.hosts[target.name].on:
            raise UnreachableError(f"{target.place}: no SSH")
        yield Direct(target, self)

    def prepare(self, *names: str) -> None:
        for name in names:
            with self.dial(self.places[name].target) as host:
                machine.prepare(host, self.cluster, self.places[name].node, REPORT)

    def balance(self) -> None:
        backends = {name: f"{self.rack.hosts[name].address}:6443" for name in PLANES}
        at = {name: self.rack.hosts[name].address for name in BALANCERS}
        for i, name in enumerate(BALANCERS):
            others = [address for other, address in at.items() if other != name]
            sharing = Sharing(self.cluster.vip, 5, "", at[name], others, 200 - 10 * i)
            wish = balancers.Wish(Front("garage", "*:6443", backends), sharing)
            with self.dial(self.place(name).target) as host:
                balancers.ensure(host, wish, REPORT.progress)

    def up(self) -> None:
        self.kubeconfig = bootstrap.ensure(self.cluster, self.planes, REPORT, self.dial)

    def party(self, name: str) -> Party:
        return Party(self.cluster, self.places[name], self.planes, self.kubeconfig)

    def join(self, *names: str) -> None:
        for name in names:
            membership.join(self.party(name), REPORT, self.dial)

    def may_go(self, name: str) -> bool:
        return membership.why_not_leave([name], self.cluster, self.planes, self.dial) == ""

    def nodes(self) -> dict[str, bool]:
        with Kube(self.kubeconfig) as kube:
            return {node.name: node.ready for node in kube.nodes()}

    def healthy(self, limit_s: float = 30) -> None:
        with Kube(self.kubeconfig) as kube:
            Deadline(limit_s).poll(lambda: kube.healthy() or None, "the API at the VIP", 0.2)

    def holder(self) -> str:
        lines = [event for event in self._events() if '"vip_taken"' in event]
        return next(name for name in BALANCERS if f'"{name}"' in lines[-1])

    def _events(self) -> list[str]:
        return (self.rack.lab.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()

    def end(self) -> None:
        self.wait(self.rack.ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMELAB_TIME_SCALE", "0.2")
        if paths.kubeadm().exists():
            patch.setenv("PATH", str(paths.kubeadm().parent), prepend=":")
        for name in ("kubeadm", "haproxy"):
            if shutil.which(name) is None:
                pytest.skip(f"{name} is not on this machine")
        made = Lab(tmp_path_factory.mktemp("kubeadm"))
        try:
            made.balance()
            made.prepare(*PLANES, WORKER)
            made.up()
            made.join(*PLANES, WORKER)
            yield made
        finally:
            made.end()


def test_a_snapshot_of_etcd_is_this_clusters(lab: Lab, tmp_path: Path):
    path = tmp_path / "s.db"
    targets = {name: place.target for name, place in lab.planes.items()}
    with pytest.raises(UnreachableError, match="is no control plane of attic yet"):
        backup.take("attic", targets, path, lab.dial)
    taken = backup.take("garage", targets, path, lab.dial)
    assert taken.snapshot.keys > 50
    assert taken.snapshot.path == path
    assert path.stat().st_mode & 0o077 == 0
    assert not lab.rack.hosts[taken.node].path(backup.SAVED).exists()
    with pytest.raises(ForeignSnapshotError):
        origin.refuse_other_authority(taken.snapshot, "another")


def test_three_control_planes_and_a_worker_are_ready_behind_the_vip(lab: Lab):
    assert lab.nodes() == dict.fromkeys((*PLANES, WORKER), True)
    lab.up()
    lab.join(*PLANES, WORKER)
    assert lab.nodes() == dict.fromkeys((*PLANES, WORKER), True)


def test_a_balancer_dies_and_the_other_takes_the_vip(lab: Lab):
    before = lab.holder()
    lab.wait(lab.rack.hosts[before].cut())
    lab.healthy()
    assert lab.holder() != before
    lab.wait(lab.rack.hosts[before].boot())


def test_a_control_plane_dies_and_another_may_not_go(lab: Lab):
    lab.wait(lab.rack.hosts["cp3"].cut())
    lab.healthy()
    with pytest.raises(RefusedError, match="must stay"):
        membership.leave(lab.party("cp2"), REPORT, lab.dial)
    lab.wait(lab.rack.hosts["cp3"].boot())
    Deadline(90).poll(lambda: lab.may_go("cp2") or None, "cp3's return to etcd", 0.5)


def test_the_first_one_goes_out_and_comes_back_as_any_other(lab: Lab):
    membership.leave(lab.party("cp1"), REPORT, lab.dial)
    assert set(lab.nodes()) == {"cp2", "cp3", WORKER}
    with lab.dial(lab.places["cp1"].target) as host:
        machine.give_back(host, lab.cluster, lab.places["cp1"].node, REPORT)
        assert host.read("/etc/kubernetes/pki/ca.crt") is None
    lab.prepare("cp1")
    lab.up()
    lab.join("cp1")
    assert lab.nodes() == dict.fromkeys((*PLANES, WORKER), True)


def test_a_dead_worker_is_taken_out(lab: Lab):
    lab.wait(lab.rack.hosts[WORKER].cut())
    membership.leave(lab.party(WORKER), REPORT, lab.dial)
    assert WORKER not in lab.nodes()


def test_certificates_say_when_they_end(lab: Lab):
    day = upkeep.certificates_end(lab.cluster, lab.planes, REPORT, lab.dial)
    assert not certificates.is_due(day)
    assert day > "2026"
    assert config.DESCRIPTION
