"""A pool's machine goes to another cluster by one changed line: the real engine, two API servers, a BMC's emulator."""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from providers.deadline import Deadline
from tests.engine.test_edge import Toys
from tests.providers.kubernetes.servers import Cluster, cluster
from tests.providers.redfish.emulator import MACS, Emulator, emulator

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

HOME, GARAGE = "127.107.2.1", "127.107.2.2"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
NODE = "/api/v1/nodes/box1"
ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass
class Lab:
    """The program in a folder of its own, and what it works on."""

    toys: Toys
    home: Cluster
    garage: Cluster
    bmc: Emulator

    def join_file(self) -> dict[str, str]:
        """The machine's, as its own script leads to it."""
        www = self.toys.folder / "netboot" / "www"
        script = (www / "mac" / f"{MACS[0].replace(':', '-')}.ipxe").read_text()
        found = re.search(r"--name config \S+/(config/[0-9a-f]{32}/join) ", script)
        assert found, script
        lines = (www / found[1]).read_text().splitlines()
        return {key: value.strip("'") for key, _, value in (line.partition("=") for line in lines)}

    def resources(self) -> dict[str, Any]:
        """Those of the state, by name."""
        exported = json.loads(self.toys.run("stack", "export"))["deployment"]["resources"]
        return {found["urn"].rsplit("::", 1)[-1]: found for found in exported}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("moving")
    with ExitStack() as stack:
        for name in ("home", "garage", "bmc"):
            (folder / name).mkdir()
        home, garage = (stack.enter_context(cluster(folder / n, at)) for n, at in (("home", HOME), ("garage", GARAGE)))
        bmc = stack.enter_context(emulator(folder / "bmc", tls=True))
        toys = Toys(folder, "moving")
        (toys.folder / "home.kubeconfig").write_text(home.kubeconfig)
        (toys.folder / "garage.kubeconfig").write_text(garage.kubeconfig)
        write(toys.folder, bmc)
        ready(home, "first")
        yield Lab(toys, home, garage, bmc)


def write(folder: Path, bmc: Emulator, cluster: str = "home") -> None:
    """The lab's settings; its machine is in a cluster."""
    for name in ("vmlinuz", "root"):
        (folder / name).write_text(f"a {name}")
    image = {"release": "r1", "kernel": str(folder / "vmlinuz"), "initramfs": str(folder / "root")}
    redfish = {"address": bmc.url, "username": "admin", "password": {"secure": "v1"}, "fingerprint": bmc.fingerprint}
    machine = {"mac": MACS[0], "power": {"redfish": redfish}}
    config: dict[str, Any] = {
        "cluster": {
            "endpoint": {"vip": "127.107.2.9"}, "talos": {"version": "v1.13.9"}, "kubernetes": {"version": "v1.36.1"},
        },
        "boards": {},
        "nodes": {},
        "clusters": {"garage": {"kubeadm": {"version": "v1.36.1"}, "ssh": {"key": {"secure": "v1"}}}},
        "hosts": {
            "rpi1": {"cluster": "garage", "role": "controlplane", "address": GARAGE, "ssh": {"host_key": HOST_KEY}}
        },
        "boot_service": {"address": "127.107.2.200", "folder": str(folder / "netboot")},
        "pools": {"boxes": {"cluster": cluster, "image": {"linux": image}, "machines": {"box1": machine}}},
    }  # fmt: skip
    whole = {"config": {f"homelab:{section}": part for section, part in config.items()}}
    (folder / "lab.yaml").write_text(yaml.safe_dump(whole))
    config["clusters"]["garage"]["ssh"]["key"], redfish["password"] = "key", "right"
    (folder / "plain.json").write_text(json.dumps(config))


def ready(api: Cluster, boot: str) -> None:
    """What a kubelet says of itself when its machine has booted."""
    api.make("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "box1"}})
    fields = ("machineID", "systemUUID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion")
    info = dict.fromkeys((*fields, "kubeProxyVersion", "operatingSystem", "architecture"), "")
    condition = {"type": "Ready", "status": "True"}
    api.patch(f"{NODE}/status", {"status": {"conditions": [condition], "nodeInfo": {**info, "bootID": boot}}})


def knows(api: Cluster) -> bool:
    """Whether a cluster has the machine's Node."""
    return api.http.get(NODE).status_code == 200


def may_join(join: dict[str, str]) -> bool:
    """Whether the API server at which a join file points takes its token."""
    context = ssl.create_default_context(cadata=base64.b64decode(join["HOMELAB_CA"]).decode())
    asked = {"resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests"}}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": asked}
    headers = {"Authorization": f"Bearer {join['HOMELAB_TOKEN']}"}
    answer = httpx2.post(join["HOMELAB_SERVER"] + ACCESS, json=body, headers=headers, verify=context, trust_env=False)
    return answer.status_code == 201


def booting(lab: Lab, left: Cluster, joined: Cluster, boot: str) -> threading.Thread:
    """The machine: when it has left and was told to boot from the network, it joins where its file says."""

    def boots() -> None:
        deadline = Deadline(150)
        deadline.poll(lambda: not knows(left) or None, "the machine leaves", 0.2)
        with lab.bmc.client() as bmc:
            deadline.poll(lambda: bmc.system().power == "On" or None, "it is switched on", 0.2)
        ready(joined, boot)

    thread = threading.Thread(target=boots, daemon=True)
    thread.start()
    return thread


def test_it_is_in_the_cluster_that_the_line_names(lab: Lab) -> None:
    lab.toys.run("up", "--yes")
    join = lab.join_file()
    assert join["HOMELAB_SERVER"] == f"https://{HOME}:6443"
    assert may_join(join)
    lab.toys.run("preview", "--expect-no-changes")


def test_another_line_moves_it(lab: Lab) -> None:
    before = lab.join_file()
    write(lab.toys.folder, lab.bmc, "garage")
    told = " ".join(lab.toys.run("preview").split())
    assert "box1: LEAVES home in its turn, and RESTARTS into garage" in told
    machine = booting(lab, lab.home, lab.garage, "second")
    lab.toys.run("up", "--yes")
    machine.join(10)
    assert (knows(lab.home), knows(lab.garage)) == (False, True)
    with lab.bmc.client() as bmc:
        assert bmc.system().target == "Pxe"
    after = lab.join_file()
    assert (after["HOMELAB_SERVER"], after["HOMELAB_DNS"]) == (f"https://{GARAGE}:6443", "10.43.0.10")
    assert may_join(after)
    assert not may_join(before), "the old cluster's token is taken back"
    lab.toys.run("preview", "--expect-no-changes")


def test_state_holds_no_secret_and_no_dependency_on_the_cluster(lab: Lab) -> None:
    found, join = lab.resources(), lab.join_file()
    state = json.dumps(found)
    assert join["HOMELAB_TOKEN"] not in state
    assert join["HOMELAB_CA"] not in state
    for name in ("box1-booted", "boxes-join"):
        listed = json.dumps([found[name].get("dependencies"), found[name].get("propertyDependencies")])
        assert "::garage" not in listed
        assert found[name]["deletedWith"].endswith("::home")


def test_it_goes_home_though_the_other_cluster_has_forgotten_it(lab: Lab) -> None:
    lab.garage.end(NODE)
    write(lab.toys.folder, lab.bmc)
    machine = booting(lab, lab.garage, lab.home, "third")
    lab.toys.run("up", "--yes")
    machine.join(10)
    assert (knows(lab.home), knows(lab.garage)) == (True, False)
