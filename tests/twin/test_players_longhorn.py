"""Longhorn as the twin plays it: volumes, evacuation, dead and wiped nodes. The tests go on from each other's end."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.twin.players_lab import Lab, settled, wait
from tools import paths
from twin.kubernetes.api import ApiError
from twin.talos.api import machine_pb2 as pb

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(180),
]
SYSTEM = "/api/v1/namespaces/longhorn-system"
LONGHORN = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
BOTH = [pb.ResetPartitionSpec(label=label, wipe=True) for label in ("STATE", "EPHEMERAL")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab(4)
    yield made
    made.close()


def replicas(lab: Lab, claim: str) -> dict[str, bool]:
    """The nodes of a claim's replicas, and whether each is healthy."""
    volume = lab.call("get", f"{CLAIMS}/{claim}")["spec"].get("volumeName")
    specs = [replica["spec"] for replica in lab.items(f"{LONGHORN}/replicas")]
    own = [spec for spec in specs if spec["volumeName"] == volume]
    assert len({spec["nodeID"] for spec in own}) == len(own)
    return {spec["nodeID"]: bool(spec["healthyAt"] and not spec["failedAt"]) for spec in own}


def healthy(lab: Lab, claim: str) -> set[str]:
    return {node for node, whole in replicas(lab, claim).items() if whole}


def volume(lab: Lab, claim: str) -> Any:
    name = lab.call("get", f"{CLAIMS}/{claim}")["spec"]["volumeName"]
    return lab.status(f"{LONGHORN}/volumes/{name}")


def claim(lab: Lab, name: str, storage_class: str = "longhorn", size: str = "1Gi") -> None:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
    }
    lab.put(CLAIMS, "PersistentVolumeClaim", name, spec=spec)


def pod(lab: Lab, name: str, claimed: str, **spec: Any) -> None:
    mounted = [{"name": "data", "persistentVolumeClaim": {"claimName": claimed}}]
    spec = {"containers": [{"name": "it", "image": "example.org/it:1"}], "volumes": mounted, **spec}
    lab.put("/api/v1/namespaces/default/pods", "Pod", name, spec=spec)


def node(lab: Lab, name: str, **spec: Any) -> None:
    lab.call("patch", f"{LONGHORN}/nodes/{name}", {"spec": spec})


def disks(lab: Lab, name: str) -> list[Any]:
    return list(lab.status(f"{LONGHORN}/nodes/{name}")["diskStatus"].values())


def lost(lab: Lab) -> int:
    return len(lab.scene.events("longhorn_replica_lost"))


def test_what_longhorn_makes_of_its_chart(lab: Lab) -> None:
    lab.namespace("longhorn-system")
    for plural, kind in (
        ("nodes", "Node"),
        ("volumes", "Volume"),
        ("replicas", "Replica"),
        ("settings", "Setting"),
        ("backuptargets", "BackupTarget"),
    ):
        lab.crd("longhorn.io", "v1beta2", plural, kind)
    found = {
        "metadata": {"name": "longhorn", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "driver.longhorn.io",
        "allowVolumeExpansion": True,
        "parameters": {"numberOfReplicas": "2", "staleReplicaTimeout": "30"},
    }
    text = {"storageclass.yaml": yaml.safe_dump(found)}
    lab.put(f"{SYSTEM}/configmaps", "ConfigMap", "longhorn-storageclass", data=text)
    text = {"default-setting.yaml": "default-data-path: /var/mnt/longhorn\ndeleting-confirmation-flag: true\n"}
    lab.put(f"{SYSTEM}/configmaps", "ConfigMap", "longhorn-default-setting", data=text)
    settled()
    assert lab.get(f"{CLASSES}/longhorn") is None
    lab.workload("DaemonSet", "longhorn-manager", "longhorn-system")
    lab.workload("Deployment", "longhorn-driver-deployer", "longhorn-system")
    wait(lambda: lab.get(f"{CLASSES}/longhorn"))
    deployments = "/apis/apps/v1/namespaces/longhorn-system/deployments"
    wait(lambda: lab.status(f"{deployments}/csi-provisioner").get("availableReplicas") == 3)
    wait(lambda: len(lab.items(f"{LONGHORN}/nodes")) == 4)
    disks = lab.call("get", f"{LONGHORN}/nodes/n2")["spec"]["disks"].values()
    assert [disk["path"] for disk in disks] == ["/var/mnt/longhorn"]
    assert lab.call("get", f"{LONGHORN}/settings/deleting-confirmation-flag")["value"] == "true"


def test_a_claim_gets_a_volume_with_replicas_on_different_nodes(lab: Lab) -> None:
    claim(lab, "data")
    wait(lambda: lab.status(f"{CLAIMS}/data").get("phase") == "Bound")
    wait(lambda: len(healthy(lab, "data")) == 2)
    wait(lambda: (volume(lab, "data").get("state"), volume(lab, "data").get("robustness")) == ("detached", "unknown"))
    pod(lab, "user", "data", nodeSelector={"kubernetes.io/hostname": "n1"})
    wait(lambda: (volume(lab, "data")["state"], volume(lab, "data")["robustness"]) == ("attached", "healthy"))
    assert volume(lab, "data")["currentNodeID"] == "n1"
    assert volume(lab, "data")["kubernetesStatus"]["pvcName"] == "data"
    assert len(lab.scene.events("longhorn_replica_added")) == 2


def test_a_claim_waits_for_its_first_consumer(lab: Lab) -> None:
    more = {"provisioner": "driver.longhorn.io", "volumeBindingMode": "WaitForFirstConsumer"}
    lab.put(CLASSES, "StorageClass", "late", parameters={"numberOfReplicas": "1"}, **more)
    claim(lab, "late", "late")
    settled()
    assert lab.status(f"{CLAIMS}/late")["phase"] == "Pending"
    pod(lab, "late", "late")
    wait(lambda: lab.status("/api/v1/namespaces/default/pods/late").get("phase") == "Running")
    assert len(healthy(lab, "late")) == 1


def test_a_claim_grows(lab: Lab) -> None:
    lab.call("patch", f"{CLAIMS}/data", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    wait(lambda: lab.status(f"{CLAIMS}/data")["capacity"]["storage"] == "2Gi")


def test_an_eviction_from_an_open_node_is_refused(lab: Lab) -> None:
    def refused() -> bool:
        try:
            node(lab, "n2", evictionRequested=True)
        except ApiError as error:
            return "need to disable scheduling" in str(error)
        return False

    wait(refused)
    with pytest.raises(ApiError, match="could not delete"):
        lab.call("delete", f"{LONGHORN}/nodes/n2")
    wait(lambda: not lab.call("get", f"{LONGHORN}/nodes/n2")["spec"]["evictionRequested"])


def test_an_evacuation_moves_replicas_one_by_one_and_never_has_less(lab: Lab) -> None:
    leaving, staying = sorted(healthy(lab, "data"))
    node(lab, leaving, allowScheduling=False, evictionRequested=True)
    seen = []

    def moved() -> bool:
        seen.append(len(healthy(lab, "data")))
        return leaving not in replicas(lab, "data") and len(healthy(lab, "data")) == 2

    wait(moved)
    assert min(seen) == 2
    assert staying in healthy(lab, "data")
    wait(lambda: volume(lab, "data")["robustness"] == "healthy")
    wait(lambda: not any(disk["scheduledReplica"] for disk in disks(lab, leaving)))
    node(lab, leaving, allowScheduling=True, evictionRequested=False)
    assert lost(lab) == 0


def test_a_detached_volume_is_evacuated_too(lab: Lab) -> None:
    claim(lab, "quiet")
    wait(lambda: lab.status(f"{CLAIMS}/quiet").get("phase") == "Bound")
    leaving = min(healthy(lab, "quiet"))
    node(lab, leaving, allowScheduling=False, evictionRequested=True)
    wait(lambda: leaving not in replicas(lab, "quiet") and len(healthy(lab, "quiet")) == 2)
    node(lab, leaving, allowScheduling=True, evictionRequested=False)
    wait(lambda: volume(lab, "quiet")["state"] == "detached")


def test_a_node_without_power_makes_a_volume_degraded_and_loses_nothing(lab: Lab) -> None:
    gone = next(name for name in sorted(healthy(lab, "data")) if name != "n1")
    machine = lab.scene.machines[gone.replace("n", "m")]
    lab.scene.do(machine.power_off)
    wait(lambda: volume(lab, "data")["robustness"] == "degraded", 60)
    wait(lambda: len(healthy(lab, "data") - {gone}) == 2, 60)  # elsewhere, after the wait for its return
    lab.scene.do(machine.power_on)
    wait(lambda: volume(lab, "data")["robustness"] == "healthy", 60)
    wait(lambda: len(replicas(lab, "data")) == 2, 60)
    assert lost(lab) == 0


def test_a_wiped_node_loses_its_replica_and_longhorn_builds_another(lab: Lab) -> None:
    gone = next(name for name in sorted(healthy(lab, "data")) if name != "n1")
    machine = gone.replace("n", "m")
    lab.scene.secure(machine, "Reset", pb.ResetRequest(reboot=True, system_partitions_to_wipe=BOTH))
    wait(lambda: lost(lab), 60)
    assert not [e for e in lab.scene.events("longhorn_volume_lost") if e["volume"] == data_volume(lab)]
    lab.call("delete", f"/api/v1/nodes/{gone}")
    wait(lambda: len(healthy(lab, "data") - {gone}) == 2, 60)
    wait(lambda: gone not in replicas(lab, "data") and gone not in replicas(lab, "quiet"), 60)
    node(lab, gone, allowScheduling=False)
    wait(lambda: deleted(lab, f"{LONGHORN}/nodes/{gone}"))


def data_volume(lab: Lab) -> str:
    return str(lab.call("get", f"{CLAIMS}/data")["spec"]["volumeName"])


def deleted(lab: Lab, path: str) -> bool:
    try:
        lab.call("delete", path)
    except ApiError:
        return False
    return lab.get(path) is None


def test_a_deleted_claim_takes_volume_and_data_along(lab: Lab) -> None:
    name = data_volume(lab)
    lab.call("delete", "/api/v1/namespaces/default/pods/user")
    lab.call("delete", f"{CLAIMS}/data")
    wait(lambda: lab.get(f"/api/v1/persistentvolumes/{name}") is None)
    wait(lambda: lab.get(f"{LONGHORN}/volumes/{name}") is None)
    wait(lambda: not [r for r in lab.items(f"{LONGHORN}/replicas") if r["spec"]["volumeName"] == name])
    on_disk = [path for path in lab.scene.lab.folder.glob("disks/*/ephemeral/longhorn/*") if path.name.startswith(name)]
    assert on_disk == []


def test_the_uninstaller_obeys_its_flag(lab: Lab) -> None:
    flag = f"{LONGHORN}/settings/deleting-confirmation-flag"
    lab.call("patch", flag, {"value": "false"})
    job = uninstall(lab)
    wait(lambda: lab.status(job).get("failed"))
    assert lab.get(f"{CLASSES}/longhorn")
    lab.call("delete", f"{job}?propagationPolicy=Background")
    wait(lambda: lab.get(job) is None)
    lab.call("patch", flag, {"value": "true"})
    job = uninstall(lab)
    wait(lambda: lab.status(job).get("succeeded"))
    assert lab.get(f"{CLASSES}/longhorn") is None
    assert lab.items(f"{LONGHORN}/replicas") == []
    assert lab.get("/apis/apps/v1/namespaces/longhorn-system/daemonsets/longhorn-manager") is None


def uninstall(lab: Lab) -> str:
    container = {"name": "longhorn-uninstall", "image": "example.org/it:1"}
    spec = {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    return lab.put("/apis/batch/v1/namespaces/longhorn-system/jobs", "Job", "longhorn-uninstall", spec=spec)
