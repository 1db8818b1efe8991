"""A cluster on the twin with real servers: bootstrap, members, Kubernetes, the VIP, power cuts, snapshot and restore.

The tests share one lab (three control planes, a worker) and go on from each other's end.
"""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grpclib.client import Channel, StreamUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.twin.talos_scene import Scene
from tools import paths
from twin.faults import Fault
from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.node import is_ready
from twin.machine import Phase
from twin.talos.api import cosi_pb2 as cosi
from twin.talos.api import machine_pb2 as pb
from twin.talos.pki import client_context, issue

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(180),
]
CONTROL_PLANES = ("m1", "m2", "m3")
EVERYBODY = (*CONTROL_PLANES, "m4")
TALOSCTL = paths.talosctl()
BOTH = [pb.ResetPartitionSpec(label=label, wipe=True) for label in ("STATE", "EPHEMERAL")]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    made = Scene(4, tools=paths.servers(), scale=0.01)
    yield made
    made.close()


def kube(scene: Scene, method: str, *words: Any) -> Any:
    """A call to Kubernetes through the VIP, as its administrator."""

    async def call() -> Any:
        ca = scene.cluster.kubernetes
        leaf = issue(ca, "test", ["system:masters"], client=True)
        async with Api(f"https://{scene.cluster.vip}:6443", client_context(ca.crt, leaf)) as api:
            return await getattr(api, method)(*words)

    return scene.run(call())


def patiently(scene: Scene, method: str, *words: Any) -> Any:
    """The same, over the gap while the VIP moves."""
    end = time.monotonic() + 30
    while True:
        try:
            return kube(scene, method, *words)
        except ApiError as error:
            if error.status or time.monotonic() > end:
                raise
        time.sleep(0.1)


def node(scene: Scene, name: str) -> Any:
    return patiently(scene, "get", f"/api/v1/nodes/{name}")


def members(scene: Scene, machine: str) -> dict[str, int]:
    reply = scene.secure(machine, "EtcdMemberList", pb.EtcdMemberListRequest()).messages[0]
    return {member.hostname: member.id for member in reply.members}


def ready(scene: Scene, *names: str) -> None:
    scene.until(lambda: all((kubelet := scene.system(name).kubelet) and kubelet.ready for name in names), 90)


def holder(scene: Scene) -> str:
    return next(name for name in CONTROL_PLANES if scene.stage(name) and scene.system(name).vip.held())


def test_bootstrap_brings_everybody_in(scene: Scene) -> None:
    scene.maintenance(*EVERYBODY)
    for name in EVERYBODY:
        scene.configure(name, "worker" if name == "m4" else "controlplane", nodeLabels={"rack": name})
    scene.until(lambda: scene.system("m1").etcd)
    scene.secure("m1", "Bootstrap", pb.BootstrapRequest())
    with pytest.raises(GRPCError) as error:
        scene.secure("m1", "Bootstrap", pb.BootstrapRequest())
    assert (error.value.status, error.value.message) == (Status.ALREADY_EXISTS, "etcd data directory is not empty")
    ready(scene, *EVERYBODY)
    assert set(members(scene, "m3")) == {"n1", "n2", "n3"}
    scene.until(lambda: all(scene.stage(name) == "running" for name in EVERYBODY))


def test_nodes_are_what_their_configs_say(scene: Scene) -> None:
    for number in (1, 2, 3, 4):
        seen = node(scene, f"n{number}")
        assert is_ready(seen)
        assert seen["metadata"]["labels"]["rack"] == f"m{number}"
        assert ("node-role.kubernetes.io/control-plane" in seen["metadata"]["labels"]) == (number < 4)
        assert seen["status"]["nodeInfo"]["bootID"] == scene.machines[f"m{number}"].boot_id
        assert {"type": "InternalIP", "address": f"{scene.net}.1{number}"} in seen["status"]["addresses"]


def test_pods_run_and_go(scene: Scene) -> None:
    container = {"name": "web", "image": "nginx"}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }
    where = "/apis/apps/v1/namespaces/default/deployments"
    kube(scene, "create", where, body)
    wait(lambda: kube(scene, "get", f"{where}/web").get("status", {}).get("readyReplicas") == 2)
    kube(scene, "delete", f"{where}/web")
    wait(lambda: not kube(scene, "get", "/api/v1/namespaces/default/pods")["items"])


def wait(condition: Any, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def test_a_changed_label_needs_no_reboot(scene: Scene) -> None:
    boot = scene.machines["m4"].boot_id
    text = scene.cluster.yaml("worker", "n4", nodeLabels={"shelf": "top"})
    request = pb.ApplyConfigurationRequest(data=text, mode=pb.ApplyConfigurationRequest.NO_REBOOT)
    scene.secure("m4", "ApplyConfiguration", request)
    labels = node(scene, "n4")["metadata"]["labels"]
    assert labels["shelf"] == "top"
    assert "rack" not in labels
    assert scene.machines["m4"].boot_id == boot


def test_a_snapshot_is_whole(scene: Scene) -> None:
    data = b"".join(part.bytes for part in scene.secure("m2", "EtcdSnapshot"))
    assert len(data) % 512 == 32
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]


def test_status_and_leadership(scene: Scene) -> None:
    ids = members(scene, "m1")
    status = scene.secure("m1", "EtcdStatus").messages[0].member_status
    leader = next(name for name, identity in ids.items() if identity == status.leader)
    reply = scene.secure(leader.replace("n", "m"), "EtcdForfeitLeadership").messages[0]
    assert reply.member in set(ids) - {leader}
    assert scene.secure(leader.replace("n", "m"), "EtcdForfeitLeadership").messages[0].member == ""
    assert not scene.secure("m1", "EtcdAlarmList").messages[0].member_alarms


@pytest.mark.skipif(not TALOSCTL.exists(), reason="make tools builds talosctl")
def test_talosctl_agrees(scene: Scene, tmp_path: Any) -> None:
    reply = scene.secure("m1", "GenerateClientConfiguration", pb.GenerateClientConfigurationRequest(roles=["os:admin"]))
    (tmp_path / "talosconfig").write_bytes(reply.messages[0].talosconfig)

    def talosctl(*words: str) -> str:
        command = [str(TALOSCTL), "--talosconfig", str(tmp_path / "talosconfig"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    one, two, worker = f"{scene.net}.11", f"{scene.net}.12", f"{scene.net}.14"
    assert talosctl("-n", f"{one},{worker}", "version").count("v1.13.9") == 2
    assert "n3" in talosctl("-n", two, "etcd", "members")
    assert "running" in talosctl("-n", worker, "get", "machinestatus")
    assert "n4" in talosctl("-n", one, "get", "members")
    assert "/dev/mmcblk0" in talosctl("-n", worker, "get", "systemdisk", "-o", "yaml")
    talosctl("-n", one, "etcd", "snapshot", str(tmp_path / "snapshot.db"))
    assert "kubelet" in talosctl("-n", worker, "services")
    talosctl("-n", one, "kubeconfig", str(tmp_path / "kubeconfig"))
    assert f"https://{scene.cluster.vip}:6443" in (tmp_path / "kubeconfig").read_text()


def test_a_power_cut_moves_the_vip_and_the_node_comes_back(scene: Scene) -> None:
    gone = holder(scene)
    name = gone.replace("m", "n")
    boot = scene.machines[gone].boot_id
    scene.do(scene.machines[gone].power_off)
    scene.until(lambda: any(scene.system(m).vip.held() for m in CONTROL_PLANES if m != gone))
    wait(lambda: not is_ready(node(scene, name)), 40)
    scene.do(scene.machines[gone].power_on)
    wait(lambda: is_ready(node(scene, name)), 40)
    assert node(scene, name)["status"]["nodeInfo"]["bootID"] == scene.machines[gone].boot_id != boot
    wait(lambda: len(members(scene, gone)) == 3)


def test_a_control_plane_leaves_and_comes_back_as_a_new_member(scene: Scene) -> None:
    gone = next(name for name in CONTROL_PLANES if name != holder(scene))
    name = gone.replace("m", "n")
    before = members(scene, gone)[name]
    scene.secure(gone, "Reset", pb.ResetRequest(graceful=True, reboot=True, system_partitions_to_wipe=BOTH))
    scene.until(lambda: scene.stage(gone) == "maintenance")
    patiently(scene, "delete", f"/api/v1/nodes/{name}")
    other = next(other for other in CONTROL_PLANES if other != gone)
    assert name not in members(scene, other)
    scene.configure(gone, "controlplane")
    scene.until(lambda: (etcd := scene.system(gone).etcd) and etcd.voting, 60)
    ready(scene, gone)
    assert members(scene, other)[name] != before


def test_a_removed_member_cannot_return(scene: Scene) -> None:
    gone = next(name for name in CONTROL_PLANES if name != holder(scene))
    name = gone.replace("m", "n")
    other = next(other for other in CONTROL_PLANES if other != gone)
    scene.do(scene.machines[gone].power_off)
    removal = pb.EtcdRemoveMemberByIDRequest(member_id=members(scene, other)[name])
    wait(lambda: accepted(scene, other, removal))
    with pytest.raises(GRPCError) as error:
        scene.secure(other, "EtcdRemoveMemberByID", pb.EtcdRemoveMemberByIDRequest(member_id=4711))
    assert error.value.status is Status.NOT_FOUND
    scene.do(scene.machines[gone].power_on)
    scene.until(lambda: (etcd := scene.system(gone).etcd) and etcd.process and etcd.process.starts > 1)
    assert name not in members(scene, other)
    assert scene.stage(gone) == "booting"


def accepted(scene: Scene, machine: str, removal: pb.EtcdRemoveMemberByIDRequest) -> bool:
    """Etcd refuses a removal until it knows that the rest is healthy."""
    try:
        scene.secure(machine, "EtcdRemoveMemberByID", removal)
    except GRPCError:
        return False
    return True


def test_a_missing_link_never_holds_the_vip(scene: Scene) -> None:
    """FAILURE-MODES 4b.12."""
    now = holder(scene)
    scene.do(lambda: scene.lab.faults.arm(Fault("vip-nic-missing", node=now)))
    scene.until(lambda: not scene.system(now).vip.held())
    scene.do(lambda: scene.lab.faults.clear("vip-nic-missing"))
    scene.until(lambda: any(scene.stage(m) and scene.system(m).vip.held() for m in CONTROL_PLANES))


def test_a_cluster_is_restored_from_its_snapshot(scene: Scene) -> None:
    source = holder(scene)
    data = b"".join(part.bytes for part in scene.secure(source, "EtcdSnapshot"))
    uid = node(scene, "n4")["metadata"]["uid"]
    wipe = pb.ResetRequest(system_partitions_to_wipe=[pb.ResetPartitionSpec(label="EPHEMERAL", wipe=True)])
    for name in CONTROL_PLANES:
        scene.secure(name, "Reset", wipe)
    scene.until(lambda: all(scene.machines[name].phase is Phase.HALTED for name in CONTROL_PLANES))
    for name in CONTROL_PLANES:
        scene.do(scene.machines[name].power_off)
        scene.do(scene.machines[name].power_on)
    scene.until(lambda: scene.system("m1").etcd)
    scene.run(upload(scene, data))
    scene.secure("m1", "Bootstrap", pb.BootstrapRequest(recover_etcd=True))
    scene.until(lambda: all((etcd := scene.system(m).etcd) and etcd.voting for m in CONTROL_PLANES), 60)
    assert node(scene, "n4")["metadata"]["uid"] == uid


async def upload(scene: Scene, data: bytes) -> None:
    context = client_context(scene.cluster.os.crt, scene.cluster.admin(), http2=True)
    async with Channel(f"{scene.net}.11", 50000, ssl=context) as channel:
        method = StreamUnaryMethod(channel, "/machine.MachineService/EtcdRecover", pb.Data, pb.DoneResponse)
        await method([pb.Data(bytes=data[start : start + 65536]) for start in range(0, len(data), 65536)], timeout=20)


def test_no_secret_is_in_a_log(scene: Scene) -> None:
    secrets = (scene.cluster.token, scene.cluster.machine_token, scene.cluster.secretbox, scene.cluster.secret)
    logs = [*scene.lab.folder.glob("logs/*/*.log"), scene.lab.folder / "events.jsonl"]
    assert len(logs) > 8
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path
        assert "PRIVATE KEY" not in text


def test_watch_begins_with_what_there_is(scene: Scene) -> None:
    definitions = scene.secure(
        "m1", "List", cosi.ListRequest(namespace="meta", type="ResourceDefinitions.meta.cosi.dev")
    )
    assert len(definitions) > 10
    kinds = [yaml.safe_load(found.resource.spec.yaml_spec)["type"] for found in definitions]
    assert "MachineStatuses.runtime.talos.dev" in kinds
