"""The twin's Talos API in both modes, as facts B1, B2 and B4 have it. No Kubernetes server is needed here."""

import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import yaml
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.twin.talos_client import Node
from tests.twin.talos_config import Cluster
from tests.twin.talos_scene import Scene
from twin.faults import Fault
from twin.machine import Phase
from twin.talos.api import cosi_pb2 as cosi
from twin.talos.api import machine_pb2 as pb

Apply = pb.ApplyConfigurationRequest


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene(2)
    yield made
    made.close()


def refused(call: Callable[[], Any]) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        call()
    return caught.value


def get(kind: str, namespace: str, identity: str) -> cosi.GetRequest:
    return cosi.GetRequest(namespace=namespace, type=kind, id=identity)


STATUS = get("MachineStatuses.runtime.talos.dev", "runtime", "machine")
CONFIG = get("MachineConfigs.config.talos.dev", "config", "v1alpha1")


def test_maintenance_mode_answers_anybody(scene: Scene) -> None:
    scene.maintenance("m1")
    assert scene.insecure("m1", "Version").messages[0].version.tag == "v1.13.9"
    assert scene.insecure("m1", "Disks").messages[0].disks[0].device_name == "/dev/mmcblk0"
    status = yaml.safe_load(scene.insecure("m1", "Get", STATUS).resource.spec.yaml_spec)
    assert status["stage"] == "maintenance"
    error = refused(lambda: scene.insecure("m1", "Bootstrap", pb.BootstrapRequest()))
    assert (error.status, error.message) == (Status.PERMISSION_DENIED, "not authorized")
    assert refused(lambda: scene.insecure("m1", "Get", CONFIG)).status is Status.PERMISSION_DENIED


def test_maintenance_mode_up_to_1_12_has_fewer_calls() -> None:
    scene = Scene(1, version="v1.12.4")
    try:
        scene.maintenance("m1")
        error = refused(lambda: scene.insecure("m1", "Version"))
        assert (error.status, error.message) == (Status.UNIMPLEMENTED, "API is not implemented in maintenance mode")
        error = refused(lambda: scene.insecure("m1", "Bootstrap", pb.BootstrapRequest()))
        assert (error.status, error.message) == (Status.UNIMPLEMENTED, "method Bootstrap not implemented")
        assert scene.insecure("m1", "Disks").messages
    finally:
        scene.close()


def _without(path: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            config = config[key]
        del config[last]

    return change


def _with(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            config = config.setdefault(key, {})
        config[last] = value

    return change


@pytest.mark.parametrize(
    ("kind", "change", "status", "text"),
    [
        ("worker", _with("machine.intall", {}), Status.UNKNOWN, "unknown keys found during decoding:\nmachine.intall"),
        ("worker", _with("cluster.etc", {}), Status.UNKNOWN, "cluster.etc"),
        ("worker", _without("machine.install"), Status.INVALID_ARGUMENT, "install instructions are required"),
        ("worker", _without("machine.ca"), Status.INVALID_ARGUMENT, "issuing Talos API CA is required"),
        ("worker", _with("machine.ca.key", "eA=="), Status.INVALID_ARGUMENT, "key is not allowed on non-controlplane"),
        (
            "worker",
            _with("cluster.etcd.ca", {}),
            Status.INVALID_ARGUMENT,
            "etcd config is only allowed on control plane",
        ),
        ("worker", _without("cluster.controlPlane"), Status.INVALID_ARGUMENT, "controlplane endpoint is required"),
        (
            "worker",
            _with("machine.network.interfaces", [{"interface": "end0", "vip": {"ip": "10.0.0.1"}}]),
            Status.INVALID_ARGUMENT,
            "virtual (shared) IP is not allowed on non-controlplane nodes",
        ),
        (
            "worker",
            _with("machine.network.interfaces", [{"interface": "end0", "deviceSelector": {"physical": True}}]),
            Status.INVALID_ARGUMENT,
            "only one of them",
        ),
        ("controlplane", _without("machine.ca.key"), Status.INVALID_ARGUMENT, ".machine.ca"),
        ("controlplane", _without("cluster.etcd"), Status.INVALID_ARGUMENT, ".cluster.etcd.ca"),
    ],
)
def test_a_config_that_talos_refuses(
    scene: Scene, kind: str, change: Callable[[dict[str, Any]], None], status: Status, text: str
) -> None:
    scene.maintenance("m1")
    config = scene.cluster.config(kind, "n1")
    change(config)
    request = Apply(data=yaml.safe_dump(config).encode())
    error = refused(lambda: scene.insecure("m1", "ApplyConfiguration", request))
    assert error.status is status
    assert text in str(error.message)


def test_documents(scene: Scene) -> None:
    scene.maintenance("m1")
    other = b"---\napiVersion: v1alpha1\nkind: VethConfig\nname: x\n"
    request = Apply(data=scene.cluster.yaml("worker", "n1") + other)
    error = refused(lambda: scene.insecure("m1", "ApplyConfiguration", request))
    assert '"VethConfig" "v1alpha1": not registered' in str(error.message)
    error = refused(lambda: scene.insecure("m1", "ApplyConfiguration", Apply(data=b"{nonsense")))
    assert str(error.message).startswith("failed to parse config")
    twice = scene.cluster.yaml("worker", "n1") + b"---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: n2\n"
    error = refused(lambda: scene.insecure("m1", "ApplyConfiguration", Apply(data=twice)))
    assert "static hostname is already set" in str(error.message)


def test_maintenance_mode_takes_some_modes_only(scene: Scene) -> None:
    scene.maintenance("m1")
    request = Apply(data=scene.cluster.yaml("worker", "n1"), mode=Apply.NO_REBOOT)
    error = refused(lambda: scene.insecure("m1", "ApplyConfiguration", request))
    assert error.status is Status.UNIMPLEMENTED
    dry = Apply(data=scene.cluster.yaml("worker", "n1"), dry_run=True)
    assert "Dry run" in scene.insecure("m1", "ApplyConfiguration", dry).messages[0].mode_details
    assert scene.stage("m1") == "maintenance"


def test_a_configured_node_knows_its_own_clients_only(scene: Scene) -> None:
    scene.maintenance("m1")
    first = scene.machines["m1"].boot_id
    scene.configure("m1", "controlplane")
    assert scene.secure("m1", "Version").messages[0].version.tag == "v1.13.9"
    assert scene.secure("m1", "Hostname").messages[0].hostname == "n1"
    boot = scene.secure("m1", "Read", pb.ReadRequest(path="/proc/sys/kernel/random/boot_id"))[0].bytes.decode().strip()
    assert boot == scene.machines["m1"].boot_id != first
    with pytest.raises((ConnectionError, ssl.SSLError, GRPCError, Exception)):
        scene.insecure("m1", "Version")
    stranger = Cluster(scene.cluster.vip)

    async def foreign() -> None:
        async with Node(f"{scene.net}.11", stranger.os.crt, stranger.admin()) as node:
            await node.call("Version")

    with pytest.raises(ssl.SSLError):
        scene.run(foreign())


def test_a_control_plane_boots_until_somebody_bootstraps_it(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.configure("m1", "controlplane")
    scene.until(lambda: scene.system("m1").services.get("etcd"))
    status = yaml.safe_load(scene.secure("m1", "Get", STATUS).resource.spec.yaml_spec)
    assert status["stage"] == "booting"
    states = {service.id: service.state for service in scene.secure("m1", "ServiceList").messages[0].services}
    assert states["etcd"] == "Preparing"
    assert states["apid"] == "Running"


def test_roles(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.configure("m1", "controlplane")
    assert scene.secure("m1", "Version", roles=("os:reader",)).messages
    for method, request in (("Reset", pb.ResetRequest()), ("Bootstrap", pb.BootstrapRequest()), ("Get", CONFIG)):
        error = refused(partial(scene.secure, "m1", method, request, roles=("os:reader",)))
        assert error.status is Status.PERMISSION_DENIED
    config = scene.secure("m1", "Get", CONFIG).resource.spec.yaml_spec
    assert yaml.safe_load(config)["cluster"]["id"] == scene.cluster.identity


@pytest.mark.parametrize("how", ["wrong disk", "fault"])
def test_a_failed_install_ends_in_maintenance_mode(scene: Scene, how: str) -> None:
    scene.maintenance("m1")
    config = scene.cluster.config("worker", "n1")
    if how == "fault":
        scene.do(lambda: scene.lab.faults.arm(Fault("install-fails")))
    else:
        config["machine"]["install"]["disk"] = "/dev/sda"
    scene.insecure("m1", "ApplyConfiguration", Apply(data=yaml.safe_dump(config).encode()))
    scene.until(lambda: scene.events("install_failed"))
    assert scene.stage("m1") == "maintenance"
    assert scene.machines["m1"].disk.state_config is None


def test_a_worker_gets_its_certificate_from_a_control_plane(scene: Scene) -> None:
    scene.maintenance("m1", "m2")
    text = scene.cluster.yaml("worker", "n2")
    scene.insecure("m2", "ApplyConfiguration", Apply(data=text))
    scene.until(lambda: scene.machines["m2"].boots == 2 and scene.machines["m2"].phase is Phase.RUNNING)
    with pytest.raises(OSError):
        scene.secure("m2", "Version")
    scene.configure("m1", "controlplane")
    scene.until(lambda: scene.stage("m2"))
    assert scene.secure("m2", "Version").messages
    error = refused(lambda: scene.secure("m2", "EtcdMemberList", pb.EtcdMemberListRequest()))
    assert (error.status, error.message) == (
        Status.UNIMPLEMENTED,
        "member list is only available on control plane nodes",
    )


def test_forwarding(scene: Scene) -> None:
    scene.maintenance("m1", "m2")
    scene.configure("m1", "controlplane")
    scene.configure("m2", "worker")
    one, two, nobody = f"{scene.net}.11", f"{scene.net}.12", f"{scene.net}.99"
    assert scene.secure("m1", "Hostname", node=two).messages[0].hostname == "n2"
    error = refused(lambda: scene.secure("m2", "Hostname", node=one))
    assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no request forwarding")
    assert scene.secure("m2", "Hostname", node=two).messages[0].hostname == "n2"
    replies = scene.secure("m1", "Version", nodes=f"{one},{nobody}").messages
    assert [reply.metadata.hostname for reply in replies] == [one, nobody]
    assert replies[1].metadata.status.code == Status.UNAVAILABLE.value
    assert refused(lambda: scene.secure("m1", "Hostname", node=nobody)).status is Status.UNAVAILABLE
    assert refused(lambda: scene.secure("m1", "Get", STATUS, nodes=one)).status is Status.INVALID_ARGUMENT


def test_modes_of_a_change_on_a_running_node(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.configure("m1", "controlplane")
    config = scene.cluster.config("controlplane", "n1", nodeLabels={"rack": "a"})
    light = yaml.safe_dump(config).encode()
    config["machine"]["env"] = {"A": "b"}
    heavy = yaml.safe_dump(config).encode()
    dry = scene.secure("m1", "ApplyConfiguration", Apply(data=light, mode=Apply.AUTO, dry_run=True)).messages[0]
    assert dry.mode == Apply.NO_REBOOT
    assert "rack" in dry.mode_details
    assert "PRIVATE" not in dry.mode_details
    done = scene.secure("m1", "ApplyConfiguration", Apply(data=light, mode=Apply.AUTO)).messages[0]
    assert (done.mode, done.mode_details) == (Apply.NO_REBOOT, "Applied configuration without a reboot")
    error = refused(lambda: scene.secure("m1", "ApplyConfiguration", Apply(data=heavy, mode=Apply.NO_REBOOT)))
    assert error.status is Status.INVALID_ARGUMENT
    staged = scene.secure("m1", "ApplyConfiguration", Apply(data=heavy, mode=Apply.STAGED)).messages[0]
    assert staged.mode_details == "Staged configuration to be applied after the next reboot"
    assert "env" not in yaml.safe_load(scene.secure("m1", "Get", CONFIG).resource.spec.yaml_spec)["machine"]
    before = scene.machines["m1"].boot_id
    scene.secure("m1", "Reboot", pb.RebootRequest())
    scene.until(lambda: scene.machines["m1"].boot_id != before and scene.stage("m1"))
    assert "env" in yaml.safe_load(scene.secure("m1", "Get", CONFIG).resource.spec.yaml_spec)["machine"]


def test_a_trial_ends_by_itself(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.configure("m1", "controlplane")
    text = scene.cluster.yaml("controlplane", "n1", nodeLabels={"rack": "a"})
    scene.secure("m1", "ApplyConfiguration", Apply(data=text, mode=Apply.TRY))
    assert scene.system("m1").at("machine", "nodeLabels")
    scene.until(lambda: not scene.system("m1").at("machine", "nodeLabels"))
    assert b"rack" not in (scene.machines["m1"].disk.state_config or b"")


def test_reset_wipes_what_it_is_told(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.configure("m1", "controlplane")
    marker = scene.machines["m1"].disk.ephemeral / "data"
    marker.write_text("x")
    labels = [pb.ResetPartitionSpec(label=label, wipe=True) for label in ("STATE", "EPHEMERAL")]
    scene.secure("m1", "Reset", pb.ResetRequest(reboot=True, system_partitions_to_wipe=labels))
    scene.until(lambda: scene.stage("m1") == "maintenance")
    assert not marker.exists()
    assert scene.machines["m1"].disk.image is not None


def test_reset_without_a_list_takes_the_boot_image_too(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.configure("m1", "controlplane")
    scene.secure("m1", "Reset", pb.ResetRequest())
    scene.until(lambda: scene.machines["m1"].phase is Phase.HALTED)
    assert scene.machines["m1"].disk.image is None


def test_shutdown_halts(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.configure("m1", "controlplane")
    scene.secure("m1", "Shutdown", pb.ShutdownRequest())
    scene.until(lambda: scene.machines["m1"].phase is Phase.HALTED)


def test_faults_of_the_api(scene: Scene) -> None:
    scene.maintenance("m1")
    scene.do(lambda: scene.lab.faults.arm(Fault("apply-lost")))
    with pytest.raises((GRPCError, OSError, Exception)):
        scene.insecure("m1", "ApplyConfiguration", Apply(data=scene.cluster.yaml("controlplane", "n1")))
    scene.until(lambda: scene.stage("m1") == "booting")
    scene.until(lambda: scene.system("m1").etcd)
    bootstrap = pb.BootstrapRequest()
    scene.do(lambda: scene.lab.faults.arm(Fault("clock-not-synced")))
    assert refused(lambda: scene.secure("m1", "Bootstrap", bootstrap)).message == "time is not in sync yet"
    scene.do(lambda: scene.lab.faults.clear("clock-not-synced"))
    scene.do(lambda: scene.lab.faults.arm(Fault("bootstrap-not-yet")))
    assert refused(lambda: scene.secure("m1", "Bootstrap", bootstrap)).message == "bootstrap is not available yet"
    scene.do(lambda: scene.lab.faults.arm(Fault("api-error", params={"type": "Hostname"})))
    assert refused(lambda: scene.secure("m1", "Hostname")).status is Status.UNAVAILABLE
    assert scene.secure("m1", "Hostname").messages


def test_half_open_connections_say_nothing_any_more(scene: Scene) -> None:
    """FAILURE-MODES 4b.18."""
    scene.maintenance("m1")
    scene.do(lambda: scene.lab.faults.arm(Fault("half-open", node="m1")))

    async def ask() -> None:
        async with Node(f"{scene.net}.11") as node:
            await node.call("Version")
            scene.machines["m1"].power_off()
            await node.call("Version", timeout_s=0.3)

    with pytest.raises(TimeoutError):
        scene.run(ask())
