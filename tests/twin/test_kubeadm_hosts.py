"""kubeadm as the twin's hosts play it: what it asks of a host, and a real balancer in front of a real API."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.balancer.config import Front, Sharing, haproxy, keepalived
from providers.kubeadm import config
from providers.kubeadm.host import ca_hash
from providers.kubeadm.tokens import listing
from providers.kubeadm.wish import Cluster, Node
from tools import paths
from twin.hosts import balancer, k3s, kubeadm, shell, sshd
from twin.hosts.host import Host
from twin.hosts.lab import HostSpec, Lab, LabSpec

PLAYED = (balancer, k3s, kubeadm, sshd)  # what they play is registered by their import
Script = Callable[["Place"], Coroutine[Any, Any, None]]
VIP, FILE = 5, "/etc/homelab/kubeadm.yaml"


class Place:
    """Hosts at PREFIX.11 and on, without SSH in front."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.prefix = f"127.{random.randint(200, 250)}.{random.randint(1, 254)}"
        specs = {name: self.spec(11 + i) for i, name in enumerate(names)}
        self.lab = Lab(LabSpec(authorized="", hosts=specs), folder, paths.servers())
        self.hosts = {name: Host(self.lab, name, spec) for name, spec in specs.items()}
        self.cluster = Cluster("garage", "v1.36.1", f"{self.prefix}.{VIP}", vip=f"{self.prefix}.{VIP}")

    def spec(self, last: int) -> HostSpec:
        return HostSpec.model_validate({"address": f"{self.prefix}.{last}", "swap": False, "memory_cgroup": True})

    def node(self, name: str, role: str) -> Node:
        address = self.hosts[name].address
        return Node(name, address, role, address)

    async def run(self, name: str, line: str) -> shell.Reply:
        return await shell.run(self.hosts[name], "root", line, b"")

    async def done(self, name: str, line: str) -> str:
        reply = await self.run(name, line)
        assert reply.code == 0, f"{line}: {reply.out.decode()}{reply.err.decode()}"
        return reply.out.decode()

    async def installed(self, name: str) -> None:
        self.hosts[name].sysctls["net.ipv4.ip_forward"] = "1"
        await self.done(name, "apt-get install -qy containerd 'kubeadm=1.36.1-*' 'kubelet=1.36.1-*' 'kubectl=1.36.1-*'")

    async def balances(self, name: str, plane: str) -> None:
        own, host = self.hosts[name].address, self.hosts[name]
        front = Front("garage", "*:6443", {plane: f"{self.hosts[plane].address}:6443"})
        host.put(balancer.HAPROXY, haproxy(front, check_s=0.3))
        sharing = Sharing(f"{self.prefix}.{VIP}", VIP, "eth0", own, [], 100)
        host.put(balancer.KEEPALIVED, keepalived("garage", sharing))
        await self.done(name, "apt-get install -qy -oDpkg::Options::=--force-confold curl haproxy keepalived")
        await self.done(name, f"haproxy -c -q -f {balancer.HAPROXY}")
        await self.done(name, f"keepalived -t -f {balancer.KEEPALIVED}")

    async def ended(self) -> None:
        for host in self.hosts.values():
            if host.on:
                await host.cut()
        await self.lab.close()


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, ...], Script], None]:
    built = paths.kubeadm()
    if built.exists():
        monkeypatch.setenv("PATH", str(built.parent), prepend=":")
    if shutil.which("kubeadm") is None:
        pytest.skip("kubeadm is not built here: `make tools`")

    def run(names: tuple[str, ...], script: Script) -> None:
        async def whole() -> None:
            place = Place(tmp_path, names)
            try:
                for host in place.hosts.values():
                    await host.boot()
                await script(place)
            finally:
                await place.ended()

        asyncio.run(whole())

    return run


def test_a_host_that_is_not_ready_for_kubernetes_is_refused(play: Callable[[tuple[str, ...], Script], None]):
    async def script(place: Place) -> None:
        await place.installed("cp1")
        place.hosts["cp1"].sysctls["net.ipv4.ip_forward"] = "0"
        place.hosts["cp1"].put("/proc/swaps", "Filename\n/swapfile file 1 0 -2\n")
        place.hosts["cp1"].put(FILE, config.init(place.cluster, place.node("cp1", "controlplane"), []))
        reply = await place.run("cp1", f"kubeadm init --config {FILE}")
        assert reply.code == 1
        assert b"[ERROR Swap]" in reply.err
        assert b"ip_forward" in reply.err

    play(("cp1",), script)


@pytest.mark.timeout(300)
def test_it_begins_behind_a_balancer_and_a_worker_joins(play: Callable[[tuple[str, ...], Script], None]):
    if shutil.which("haproxy") is None:
        pytest.skip("the package haproxy is not installed")

    async def script(place: Place) -> None:
        await place.balances("lb1", "cp1")
        await place.installed("cp1")
        node = place.node("cp1", "controlplane")
        place.hosts["cp1"].put(FILE, config.init(place.cluster, node, config.sans(place.cluster, [node])), 0o600)
        await place.done("cp1", f"kubeadm init --config {FILE}")
        listed = listing(await place.done("cp1", "kubeadm token list --kubeconfig /etc/kubernetes/admin.conf -o json"))
        (token,) = [one for one in listed if one.description == config.DESCRIPTION]
        pin = ca_hash(place.hosts["cp1"].read("/etc/kubernetes/pki/ca.crt"))
        await place.installed("w1")
        worker = place.node("w1", "worker")
        await _refused(place, worker, config.Ticket("abcdef.0123456789abcdef", pin), "no JWS signature")
        await _refused(place, worker, config.Ticket(token.token, f"sha256:{'0' * 64}"), "none of the public keys")
        place.hosts["w1"].put(FILE, config.join(place.cluster, worker, config.Ticket(token.token, pin)), 0o600)
        await place.done("w1", f"kubeadm join --config {FILE}")
        said = await place.done("cp1", "kubectl -n kube-system exec etcd-cp1 -- etcdctl member list -w json")
        assert [member["name"] for member in yaml.safe_load(said)["members"]] == ["cp1"]
        await place.done("w1", "kubeadm reset --force")
        assert not place.hosts["w1"].path("/etc/kubernetes/kubelet.conf").exists()

    play(("cp1", "lb1", "w1"), script)


async def _refused(place: Place, worker: Node, ticket: config.Ticket, words: str) -> None:
    place.hosts["w1"].put(FILE, config.join(place.cluster, worker, ticket), 0o600)
    reply = await place.run("w1", f"kubeadm join --config {FILE}")
    assert reply.code == 1
    assert words in reply.err.decode()
