"""Upgrade and Rollback on the twin as the device does them (facts daytwo 1.2, 2.1, 2.2). No server is needed here."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from tests.twin.talos_config import Cluster
from tests.twin.talos_scene import Scene
from twin import schematic
from twin.faults import Fault
from twin.kubernetes import staticpods
from twin.kubernetes.api import ApiError
from twin.machine import UPGRADE, Phase
from twin.talos.api import cosi_pb2 as cosi
from twin.talos.api import machine_pb2 as pb
from twin.talos.config import Config, parse
from twin.talos.upgrade import preflight

RECIPE = b"overlay: {image: siderolabs/sbc-rockchip, name: turingrk1}\ncustomization: {}\n"
META = cosi.ListRequest(namespace="runtime", type="MetaKeys.runtime.talos.dev")
EXTENSIONS = cosi.ListRequest(namespace="runtime", type="ExtensionStatuses.runtime.talos.dev")


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A control plane without a bootstrapped etcd, and a worker that runs."""
    made = Scene(2, version="v1.12.11")
    folder = made.lab.folder / "factory"
    folder.mkdir()
    (folder / f"{schematic.identity(RECIPE)}.yaml").write_text(schematic.canonical(RECIPE))
    made.maintenance("m1", "m2")
    made.configure("m1", "controlplane")
    made.configure("m2", "worker")
    made.until(lambda: made.stage("m2") == "running")
    yield made
    made.close()


def image(scene: Scene, version: str = "v1.13.9", recipe: bytes = RECIPE) -> str:
    return f"{scene.net}.2:8080/metal-installer/{schematic.identity(recipe)}:{version}"


def ask(scene: Scene, reference: str, node: str = "m2", **options: Any) -> Any:
    return scene.secure(node, "Upgrade", pb.UpgradeRequest(image=reference, **options))


def refused(call: Callable[[], Any]) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        call()
    return caught.value


def version(scene: Scene) -> str:
    return str(scene.secure("m2", "Version").messages[0].version.tag)


def rebooted(scene: Scene, boots: int = 3) -> None:
    scene.until(lambda: scene.machines["m2"].boots == boots and scene.stage("m2") == "running")


def specs(scene: Scene, asked: cosi.ListRequest) -> list[Any]:
    return [yaml.safe_load(item.resource.spec.yaml_spec) for item in scene.secure("m2", "List", asked)]


def test_the_other_slot_boots_with_the_new_version_and_schematic(scene: Scene) -> None:
    answer = ask(scene, image(scene)).messages[0]
    assert (answer.ack, bool(answer.actor_id)) == ("Upgrade request received", True)
    rebooted(scene)
    assert version(scene) == "v1.13.9"
    assert specs(scene, EXTENSIONS)[-1]["metadata"]["version"] == schematic.identity(RECIPE)
    # Not ready, for there is no Kubernetes here: the way back stays open.
    assert specs(scene, META) == [{"value": "A"}]
    assert "/B/vmlinuz" in scene.machines["m2"].uart_bytes().decode()


def test_a_second_request_while_one_is_under_way_does_nothing(scene: Scene) -> None:
    ask(scene, image(scene))
    ask(scene, image(scene, "v1.13.8"))
    rebooted(scene)
    assert version(scene) == "v1.13.9"
    assert len(scene.events("upgrade_installed")) == 1


def test_rollback_boots_the_old_version_and_there_is_none_on_a_fresh_node(scene: Scene) -> None:
    error = refused(lambda: scene.secure("m2", "Rollback"))
    assert error.message == 'cannot rollback to "B", label does not exist'
    ask(scene, image(scene))
    rebooted(scene)
    scene.secure("m2", "Rollback")
    rebooted(scene, 4)
    assert version(scene) == "v1.12.11"
    assert specs(scene, META) == []


def test_slots_and_meta_survive_a_power_cut_and_a_flash_forgets_them(scene: Scene) -> None:
    ask(scene, image(scene))
    rebooted(scene)
    disk = scene.machines["m2"].disk
    kept = type(disk)(disk.folder, disk.size_bytes, disk.device)
    assert (kept.label, kept.meta, kept.fallback) == ("B", {UPGRADE: "A"}, disk.fallback)
    scene.do(scene.machines["m2"].power_off)
    scene.do(disk.begin_write)
    assert (disk.label, disk.meta, disk.fallback) == ("A", {}, None)


@pytest.mark.parametrize(
    "reference",
    [
        "{factory}/metal-installer/{id}:v1.13.77",
        "{factory}/metal-installer/" + "0" * 64 + ":v1.13.9",
        "registry.home:5000/talos:v1.13.9",
        "nonsense",
    ],
)
def test_what_no_registry_has_is_refused_before_anything_happens(scene: Scene, reference: str) -> None:
    name = reference.format(factory=f"{scene.net}.2:8080", id=schematic.identity(RECIPE))
    error = refused(lambda: ask(scene, name))
    assert error.status is Status.UNKNOWN
    assert (error.message or "").startswith(f'error validating installer image "{name}"')
    assert (error.message or "").endswith("not found")
    assert scene.stage("m2") == "running"


def test_an_installer_that_the_owner_built_names_no_schematic(scene: Scene) -> None:
    scene.lab.spec.installers["registry.home:5000/talos:mine"] = "v1.13.9"
    ask(scene, "registry.home:5000/talos:mine")
    rebooted(scene)
    assert version(scene) == "v1.13.9"
    assert specs(scene, EXTENSIONS)[-1]["metadata"]["version"] == ""


def test_the_plain_installer_brings_no_boot_loader_for_the_board(scene: Scene) -> None:
    ask(scene, "ghcr.io/siderolabs/installer:v1.13.9")
    scene.until(lambda: scene.events("boot_failed"))


def test_a_control_plane_whose_etcd_does_not_run_is_not_upgraded_unless_forced(scene: Scene) -> None:
    error = refused(lambda: ask(scene, image(scene), "m1"))
    assert "failed to create etcd client" in (error.message or "")
    # From late 1.12 patches on, `preserve` silently leaves out the checks.
    ask(scene, image(scene), "m1", preserve=True)
    scene.until(lambda: scene.machines["m1"].boots == 3)


def test_power_that_goes_as_the_upgrade_is_asked_for_leaves_the_old_version(scene: Scene) -> None:
    scene.do(lambda: scene.lab.faults.arm(Fault("power-cut", node="m2", at="upgrade_asked")))
    with contextlib.suppress(GRPCError, OSError, StreamTerminatedError):  # the answer may be lost
        ask(scene, image(scene))
    rebooted(scene)
    scene.run(asyncio.sleep(0.5))
    assert (version(scene), scene.events("upgrade_installed")) == ("v1.12.11", [])


def test_a_failing_installer_ends_in_the_old_version(scene: Scene) -> None:
    scene.do(lambda: scene.lab.faults.arm(Fault("upgrade-fails", node="m2")))
    ask(scene, image(scene))
    rebooted(scene)
    assert (version(scene), specs(scene, META)) == ("v1.12.11", [])


def test_a_machined_that_ends_goes_back_by_itself(scene: Scene) -> None:
    scene.do(lambda: scene.lab.faults.arm(Fault("upgrade-reverts", node="m2")))
    ask(scene, image(scene))
    rebooted(scene, 4)
    assert (version(scene), specs(scene, META)) == ("v1.12.11", [])
    assert "reverting failed upgrade" in scene.machines["m2"].uart_bytes().decode()


def test_a_kernel_that_hangs_stays_silent_until_its_power_is_cut(scene: Scene) -> None:
    machine = scene.machines["m2"]
    scene.do(lambda: scene.lab.faults.arm(Fault("upgrade-never-boots", node="m2")))
    ask(scene, image(scene))
    scene.until(lambda: b"crng init done" in machine.uart_bytes())
    assert machine.phase is Phase.LOADER
    scene.do(machine.power_off)
    scene.do(machine.power_on)
    rebooted(scene, 4)
    assert version(scene) == "v1.13.9"


def test_a_version_that_is_never_ready_answers_and_can_be_told_to_go_back(scene: Scene) -> None:
    scene.do(lambda: scene.lab.faults.arm(Fault("upgrade-never-ready", node="m2")))
    ask(scene, image(scene))
    scene.until(lambda: scene.machines["m2"].boots == 3 and scene.stage("m2") == "booting")
    assert version(scene) == "v1.13.9"
    scene.secure("m2", "Rollback")
    rebooted(scene, 4)
    assert version(scene) == "v1.12.11"


@pytest.mark.parametrize(
    ("host", "target", "words"),
    [
        ("v1.12.11", "v1.13.9", ""),
        ("v1.11.6", "v1.13.9", ""),
        ("v1.10.9", "v1.13.9", "host version v1.10.9 is too old to upgrade to Talos v1.13.9"),
        ("v1.13.9", "v1.12.11", ""),
        ("v1.13.9", "v1.11.6", "host version v1.13.9 is too new to downgrade to Talos v1.11.6"),
        ("v1.13.9", "v1.99.0", "upgrades to version v1.99.0 are not supported"),
    ],
)
def test_the_installers_own_table(host: str, target: str, words: str) -> None:
    assert preflight(host, target) == (f"pre-flight checks failed: {words}" if words else "")


def test_only_administrators_upgrade(scene: Scene) -> None:
    asked = pb.UpgradeRequest(image=image(scene))
    error = refused(lambda: scene.secure("m2", "Upgrade", asked, roles=("os:operator",)))
    assert error.status is Status.PERMISSION_DENIED
    assert refused(lambda: scene.secure("m2", "Rollback", roles=("os:operator",))).status is Status.PERMISSION_DENIED


def test_talos_own_manifests_follow_the_config(scene: Scene) -> None:
    asked = cosi.ListRequest(namespace="controlplane", type="Manifests.kubernetes.talos.dev")
    found = [yaml.safe_load(item.resource.spec.yaml_spec) for item in scene.secure("m1", "List", asked)]
    names = [(body["kind"], body["metadata"]["name"]) for bodies in found for body in bodies]
    assert names == [("DaemonSet", "kube-proxy"), ("DaemonSet", "kube-flannel")]
    assert scene.secure("m2", "List", asked) == []


def config(version: str) -> Config:
    document = Cluster("10.0.0.10").config("controlplane", "n1")
    document["cluster"]["apiServer"]["image"] = f"registry.k8s.io/kube-apiserver:{version}"
    return parse(yaml.safe_dump(document).encode())


class Pods:
    """The pods of a cluster's API, which knows its Node only after a while."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.looks = 0

    async def get(self, path: str) -> Any:
        if path.startswith("/api/v1/nodes/"):
            self.looks += 1
            if self.looks == 1:
                raise ApiError(404, "not found")
            return {"metadata": {"uid": "a-uid"}}
        name = path.rpartition("/")[2]
        if name not in self.kept:
            raise ApiError(404, "not found")
        return self.kept[name]

    async def create(self, path: str, body: Any) -> Any:
        self.kept[body["metadata"]["name"]] = body
        return body

    async def delete(self, path: str) -> None:
        del self.kept[path.rpartition("/")[2].partition("?")[0]]


def test_mirror_pods_follow_the_images_and_each_boot() -> None:
    api: Any = Pods()
    asyncio.run(staticpods.publish(api, config("v1.35.4"), "n1", "boot-1"))
    assert sorted(api.kept) == ["kube-apiserver-n1", "kube-controller-manager-n1", "kube-scheduler-n1"]
    before = api.kept["kube-apiserver-n1"]
    asyncio.run(staticpods.publish(api, config("v1.36.1"), "n1", "boot-1"))
    after = api.kept["kube-apiserver-n1"]
    assert after["spec"]["containers"][0]["image"] == "registry.k8s.io/kube-apiserver:v1.36.1"
    versions = [pod["metadata"]["annotations"]["talos.dev/config-version"] for pod in (before, after)]
    assert versions[0] != versions[1]
    assert after["metadata"]["ownerReferences"][0]["uid"] == "a-uid"
    asyncio.run(staticpods.publish(api, config("v1.36.1"), "n1", "boot-2"))
    assert api.kept["kube-apiserver-n1"] is not after


def test_a_connection_still_in_its_handshake_ends_with_the_system_it_was_for(scene: Scene) -> None:
    class Wire(asyncio.WriteTransport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return default

        def write(self, data: Any) -> None:
            assert self.aborted

        def is_closing(self) -> bool:
            return self.aborted

    wire = Wire()

    def act() -> None:
        api = scene.system("m2").api
        connection = api._server._protocol_factory()  # type: ignore[union-attr]
        scene.machines["m2"].power_off()
        connection.connection_made(wire)

    scene.do(act)
    assert wire.aborted


def test_images_are_pulled_once_in_a_boot(scene: Scene) -> None:
    request = pb.ImagePullRequest(namespace=pb.ImagePullRequest.NS_CRI, reference="registry.k8s.io/pause:3.10")
    scene.secure("m2", "ImagePull", request)
    scene.secure("m2", "ImagePull", request)
    assert [event["image"] for event in scene.events("image_pulled")] == ["registry.k8s.io/pause:3.10"]
    unnamed = pb.ImagePullRequest(reference="registry.k8s.io/pause")
    assert "not found" in (refused(lambda: scene.secure("m2", "ImagePull", unnamed)).message or "")
