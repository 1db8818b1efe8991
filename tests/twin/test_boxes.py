"""Machines that boot from the network: real scripts, a real API server, and a BMC that others wrote."""

from __future__ import annotations

import base64
import json
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.netboot import dnsmasq, scripts, tokens
from providers.netboot.plan import Approval, Image, Machine, Pool, Service
from providers.redfish.client import PXE
from tests.providers.kubernetes.servers import Cluster, cluster, process
from tests.providers.kubernetes.wire import Authority
from tests.providers.netboot.boots import http_server, running
from tests.providers.redfish.emulator import emulator
from tools import paths
from twin.kubernetes import manifests

MAC, UUID = "02:00:00:00:01:01", "11111111-0000-4000-8000-000000000001"
IMAGE = Image("boxes-r1", ("quiet",))
ROOT = Path(__file__).parents[2]
LATER_S = 3600.0
CONTROLLERS = "csrapproving,csrsigning,tokencleaner,nodelifecycle"
FLAGS = ("--enable-bootstrap-token-auth=true", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true")


class Place:
    """One box, box1, with a boot service and a cluster."""

    def __init__(self, folder: Path, prefix: str, api: Cluster) -> None:
        self.folder, self.prefix, self.api = folder, prefix, api
        self.www, self.state = folder / "www", folder / "state"
        self.service = Service(IPv4Address(f"{prefix}.8"), IPv4Network(f"{prefix}.0/24"), port=8069)
        self.image()

    @property
    def spec(self) -> dict[str, Any]:
        """The lab file."""
        entry = f"{self.service.url}/{dnsmasq.ENTRY}"
        box = {"uuid": UUID, "mac": MAC, "address": f"{self.prefix}.21", "entry": entry}
        return {"authorized": "", "hosts": {}, "boxes": {"box1": box}, "bmc": f"{self.prefix}.9:9000",
                "boot_s": 0.1, "scale": 0.05}  # fmt: skip

    def image(self, kernel: str = "a kernel", root: str = "twin-root kubelet=v1.36.1\n") -> None:
        """What the machine loads."""
        self.put(f"images/{IMAGE.name}/kernel", kernel)
        self.put(f"images/{IMAGE.name}/initramfs", root)

    def serve(self, token: tokens.Token | None, mac: str = MAC, unknown: Approval | None = None, **given: str) -> None:
        """The scripts, and box1's config; without a token there is none."""
        for file in [file for file in self.www.rglob("*") if file.is_file() and "images" not in file.parts]:
            file.unlink()
        machine = Machine("box1", mac, config="config/0f3c/join" if token else "")
        for path, text in scripts.tree(self.service, [Pool("boxes", IMAGE, (machine,), approval=unknown)]).items():
            self.put(path, text)
        if token is not None:
            self.put("config/0f3c/join", self.config(token, **given))

    def config(self, token: tokens.Token, **given: str) -> str:
        """The file that a plain Linux joins with."""
        ca = base64.b64encode((self.folder / "ca.pem").read_bytes()).decode()
        values = {"NODE": "box1", "SERVER": f"https://{self.prefix}.7:6443", "CA": ca, "TOKEN": token.text,
                  "LABELS": "", "TAINTS": ""}  # fmt: skip
        return "".join(f"HOMELAB_{key}={shlex.quote(value)}\n" for key, value in {**values, **given}.items())

    def put(self, path: str, text: str) -> None:
        (self.www / path).parent.mkdir(parents=True, exist_ok=True)
        (self.www / path).write_text(text)

    def token(self, *, valid_s: float = LATER_S, known: bool = True) -> tokens.Token:
        made = tokens.new(int(time.time() + valid_s))
        if known:
            self.api.make("/api/v1/namespaces/kube-system/secrets", tokens.manifest(made, "boxes/box1"))
        return made

    def network(self) -> None:
        """What a network's DaemonSet would put on the node."""
        volume = {"name": "cni", "hostPath": {"path": "/etc/cni/net.d"}}
        spec = {"nodeName": "box1", "containers": [{"name": "cni", "image": "cni:1"}], "volumes": [volume]}
        self.api.make("/api/v1/namespaces/kube-system/pods", {"metadata": {"name": "cni"}, "spec": spec})

    def twin(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "twin.hosts", *words, "--state", str(self.state)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def events(self, kind: str = "", since: int = 0) -> list[dict[str, Any]]:
        lines = (self.state / "events.jsonl").read_text().splitlines()[since:]
        return [event for event in map(json.loads, lines) if kind in ("", event["kind"])]

    def event(self, kind: str, since: int = 0) -> dict[str, Any]:
        """The first event of a kind, as soon as it is there."""
        found: dict[str, Any] = self.wait(lambda: next(iter(self.events(kind, since)), None), kind)
        return found

    def node(self) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = self.api.get("/api/v1/nodes")["items"]
        return found[0] if found else None

    def ready(self, boot: str = "") -> dict[str, Any] | None:
        """The Node, if it is Ready, and in another boot than that one."""
        node = self.node()
        told = {c["type"]: c["status"] for c in (node or {}).get("status", {}).get("conditions", [])}
        other = node is not None and node["status"]["nodeInfo"]["bootID"] != boot
        return node if other and told.get("Ready") == "True" else None

    def wait(self, probe: Callable[[], Any], what: str, limit_s: float = 40) -> Any:
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            if (found := probe()) is not None:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{what}: {self.events()[-8:]}")

    def switched_on(self, *words: str) -> int:
        """Switch it off and on; gives how many events there were before."""
        self.twin("cut", "box1")
        before = len(self.events())
        self.twin("power", "box1")
        return before

    def forget(self) -> None:
        """A new box and an empty cluster."""
        self.twin("cut", "box1")
        self.api.end("/api/v1/nodes/box1")
        self.api.end("/api/v1/namespaces/kube-system/pods/cni")
        self.image()


@pytest.fixture(scope="module")
def running_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, prefix = tmp_path_factory.mktemp("boxes"), f"127.{random.randint(200, 250)}.{random.randint(1, 254)}"
    with ExitStack() as stack:
        api = stack.enter_context(cluster(folder, f"{prefix}.7", *FLAGS))
        place = Place(folder, prefix, api)
        (folder / "admin.yaml").write_text(api.kubeconfig)
        (folder / "lab.yaml").write_text(yaml.safe_dump(place.spec))
        manager = [f"--{key}={value}" for key, value in {
            "kubeconfig": folder / "admin.yaml", "controllers": CONTROLLERS, "leader-elect": "false",
            "cluster-signing-cert-file": folder / "ca.pem", "cluster-signing-key-file": folder / "ca.key",
            "bind-address": f"{prefix}.7", "node-monitor-period": "1s", "node-monitor-grace-period": "8s",
        }.items()]  # fmt: skip
        stack.enter_context(process(folder, paths.servers_bin() / "kube-controller-manager", *manager))
        stack.enter_context(running(http_server(place.www, str(place.service.address), 8069), folder / "http.log"))
        for path, body in (*manifests._bindings(), *manifests.kwok()):
            api.make(path, body)
        place.twin("up", "--lab", str(folder / "lab.yaml"), "--tools", str(paths.servers()))
        stack.callback(place.twin, "down")
        yield place


@pytest.fixture
def place(running_place: Place) -> Iterator[Place]:
    yield running_place
    running_place.forget()


def test_a_box_joins_with_its_token_and_is_ready_with_a_network(place: Place):
    place.serve(place.token(), LABELS="example.com/rack=left", TAINTS="example.com/only=batch:NoSchedule")
    place.switched_on()
    node = place.wait(place.node, "a Node")
    assert place.ready() is None, "nothing has brought a network"
    place.network()
    node = place.wait(place.ready, "a Ready Node")
    assert node["metadata"]["labels"]["example.com/rack"] == "left"
    assert {"key": "example.com/only", "value": "batch", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.1"
    asked = place.api.get("/apis/certificates.k8s.io/v1/certificatesigningrequests")["items"][-1]
    assert asked["spec"]["username"].startswith("system:bootstrap:")
    lease = place.api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/box1")
    assert lease["spec"]["holderIdentity"]


def test_nothing_of_it_outlasts_its_power(place: Place):
    place.serve(place.token())
    place.switched_on()
    place.wait(place.node, "a Node")
    place.network()
    first = place.wait(place.ready, "Ready")["status"]["nodeInfo"]["bootID"]
    place.twin("cut", "box1")
    assert not (place.state / "box1" / "ram").exists()
    place.wait(lambda: place.ready() is None or None, "not Ready any more")
    before = len(place.events())
    place.twin("power", "box1")
    place.wait(lambda: place.ready(first), "Ready in another boot")
    assert place.events("joining", before), "it had to ask for a certificate again"
    token = place.config(place.token()).encode()
    assert token not in (place.state / "events.jsonl").read_bytes()


def test_its_bmc_switches_it(place: Place):
    place.serve(place.token())
    place.forget()
    folder = place.folder / "bmc"
    folder.mkdir()
    url = f"http://{place.prefix}.9:9000/power"
    with (
        emulator(folder, systems=(), tls=True, boxes={UUID: MAC}, notified=url) as running,
        running.client(fingerprint=running.fingerprint, system=UUID) as bmc,
    ):
        before = len(place.events())
        bmc.power_on(limit_s=40)
        assert place.event("boot_failed", before)["said"] == "No bootable device", "nobody said from where"
        bmc.power_off(grace_s=40)
        place.event("power_off", before)
        bmc.boot_once(PXE)
        bmc.power_on(limit_s=40)
        place.wait(place.node, "a Node")
        boots = len(place.events("boot"))
        bmc.restart(limit_s=40)
        place.wait(lambda: len(place.events("boot")) == boots + 1 or None, "another boot")


@pytest.mark.parametrize(
    ("token", "given", "said"),
    [
        ({"known": False}, {}, "401: Unauthorized"),
        ({"valid_s": -5.0}, {}, "401: Unauthorized"),
        ({}, {"CA": base64.b64encode(Authority().pem.encode()).decode()}, "ClientConnectorCertificateError"),
        ({}, {"CA": base64.b64encode(b"no certificate").decode()}, "unable to load the cluster's CA"),
        ({}, {"LABELS": "kubernetes.io/role=boss"}, "unknown 'kubernetes.io' or 'k8s.io' labels"),
    ],
)
def test_whoever_is_not_let_in_stays_out_and_says_why(
    place: Place, token: dict[str, Any], given: dict[str, Any], said: str
):
    place.serve(place.token(**token), **given)
    since = place.switched_on()
    assert said in place.event("kubelet_failed", since)["said"]
    assert place.node() is None
    place.serve(place.token())
    place.switched_on()
    place.wait(place.node, "a Node, with what is right")


def test_without_somebody_who_approves_it_waits(place: Place):
    binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system-bootstrap-approve-node-client-csr"
    place.api.end(binding)
    place.serve(place.token())
    place.event("joining", place.switched_on())
    time.sleep(2)
    assert place.node() is None
    for path, body in manifests._bindings():
        if body["metadata"]["name"] == binding.rpartition("/")[2]:
            place.api.make(path, body)
    place.wait(place.node, "a Node")


@pytest.mark.parametrize(
    ("image", "said"),
    [({"root": "something else"}, "Unable to mount root fs"), ({"kernel": ""}, "Exec format error")],
)
def test_what_is_no_system_does_not_start(place: Place, image: dict[str, str], said: str):
    place.image(**image)
    place.serve(place.token())
    assert said in place.event("boot_failed", place.switched_on())["said"]
    assert place.node() is None


def test_a_file_that_is_missing_is_waited_for(place: Place):
    place.serve(place.token())
    (place.www / "images" / IMAGE.name / "initramfs").unlink()
    since = place.switched_on()
    time.sleep(1.5)
    assert not place.events("boot_failed", since)
    assert not place.events("system_started", since)
    place.image()
    place.event("system_started", since)
    place.wait(place.node, "a Node")


def test_a_machine_that_nobody_named_goes_on_or_waits_until_somebody_does(place: Place):
    other = "02:00:00:00:01:99"
    place.serve(place.token(), mac=other)
    assert "no bootable device" in place.event("boot_failed", place.switched_on())["said"]
    place.serve(place.token(), mac=other, unknown=Approval.MANUAL)
    since = place.switched_on()
    time.sleep(1.5)
    assert not place.events("boot_failed", since)
    assert f"GET /waiting/{MAC.replace(':', '-')}/{UUID}/box1/twin" in (place.folder / "http.log").read_text()
    place.serve(place.token(), unknown=Approval.MANUAL)
    place.wait(place.node, "a Node")


def test_without_a_config_it_runs_and_joins_nothing(place: Place):
    place.serve(None)
    place.event("nothing_to_join", place.switched_on())


def test_a_config_that_is_not_whole_ends_the_start_script(place: Place):
    token = place.token()
    place.serve(token)
    place.put("config/0f3c/join", place.config(token).replace("HOMELAB_TAINTS", "HOMELAB_OTHER"))
    assert "HOMELAB_TAINTS" in place.event("join_failed", place.switched_on())["said"]
