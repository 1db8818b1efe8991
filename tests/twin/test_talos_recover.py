"""Recovering etcd on the twin as Talos does it: with etcd's own tool, its errors, and for administrators alone.

The tests share one control plane and go on from each other's end.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from grpclib.client import Channel, StreamUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.twin.talos_scene import Scene
from tools import paths
from twin.talos import methods
from twin.talos.api import machine_pb2 as pb
from twin.talos.pki import client_context

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(180),
]
BACKUP = "os:etcd:backup"
MAY = {"EtcdSnapshot", "EtcdMemberList", "EtcdStatus", "EtcdAlarmList"}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    made = Scene(1, tools=paths.servers(), scale=0.01)
    made.maintenance("m1")
    made.configure("m1", "controlplane")
    made.until(lambda: made.system("m1").etcd)
    yield made
    made.close()


def etcd(scene: Scene) -> tuple[str, str]:
    """The state and the words of the service."""
    service = next(it for it in scene.secure("m1", "ServiceList").messages[0].services if it.id == "etcd")
    return service.state, service.health.last_message


def votes(scene: Scene) -> None:
    scene.until(lambda: (it := scene.system("m1").etcd) and it.voting, 60)


def snapshot(scene: Scene) -> bytes:
    return b"".join(part.bytes for part in scene.secure("m1", "EtcdSnapshot", roles=(BACKUP,)))


def upload(scene: Scene, data: bytes, *roles: str) -> None:
    async def send() -> None:
        context = client_context(scene.cluster.os.crt, scene.cluster.admin(*roles), http2=True)
        async with Channel(f"{scene.net}.11", 50000, ssl=context) as channel:
            method = StreamUnaryMethod(channel, "/machine.MachineService/EtcdRecover", pb.Data, pb.DoneResponse)
            await method([pb.Data(bytes=data[at : at + 32768]) for at in range(0, len(data), 32768)], timeout=20)

    scene.run(send())


def wiped(scene: Scene) -> None:
    wipe = [pb.ResetPartitionSpec(label="EPHEMERAL", wipe=True)]
    before = scene.machines["m1"].boot_id
    scene.secure("m1", "Reset", pb.ResetRequest(system_partitions_to_wipe=wipe, reboot=True))
    scene.until(lambda: scene.machines["m1"].boot_id != before and scene.system("m1").etcd)


def recover(scene: Scene, **how: Any) -> None:
    scene.secure("m1", "Bootstrap", pb.BootstrapRequest(recover_etcd=True, **how))


def failed(scene: Scene) -> str:
    scene.until(lambda: scene.system("m1").services["etcd"].state == "Failed")
    return etcd(scene)[1]


@pytest.fixture(scope="module")
def kept(scene: Scene) -> bytes:
    """A snapshot of the cluster while it runs; then the node has lost its etcd."""
    scene.secure("m1", "Bootstrap", pb.BootstrapRequest())
    votes(scene)
    data = snapshot(scene)
    wiped(scene)
    return data


def test_a_key_for_backups_can_do_nothing_else(scene: Scene, kept: bytes) -> None:
    allowed = set()
    for path, method in methods.table().items():
        name = path.rpartition("/")[2]
        try:
            if method.uploads:
                upload(scene, b"x", BACKUP)
            else:
                scene.secure("m1", name, method.request(), roles=(BACKUP,))
        except GRPCError as error:
            if (error.status, error.message) == (Status.PERMISSION_DENIED, "not authorized"):
                continue
        allowed.add(name)  # also what fails for another reason, as they do while there is no etcd
    assert allowed == MAY


def test_nothing_was_uploaded(scene: Scene, kept: bytes) -> None:
    assert etcd(scene)[0] == "Preparing"
    recover(scene)
    assert failed(scene).startswith("Failed to run pre stage: error verifying snapshot: ")


@pytest.mark.parametrize("harm", ["a flipped bit", "no checksum", "no database"])
def test_a_snapshot_of_no_use_fails_the_service_and_can_be_replaced(scene: Scene, kept: bytes, harm: str) -> None:
    data = bytearray(kept)
    if harm == "a flipped bit":
        data[-1] ^= 1
    upload(scene, {"a flipped bit": bytes(data), "no checksum": kept[:-32], "no database": b"x" * 4128}[harm])
    recover(scene)
    said = {
        "a flipped bit": "error recovering from the snapshot: expected sha256",
        "no checksum": "error recovering from the snapshot: snapshot missing hash but --skip-hash-check=false",
        "no database": "error verifying snapshot: ",
    }
    assert failed(scene).startswith(f"Failed to run pre stage: {said[harm]}")


def test_a_copy_of_the_database_is_taken_when_told_so_and_a_whole_one_anyway(scene: Scene, kept: bytes) -> None:
    for data, skip in ((kept[:-32], True), (kept, False)):
        upload(scene, data)
        recover(scene, recover_skip_hash_check=skip)
        votes(scene)
        with pytest.raises(GRPCError, match="etcd data directory is not empty"):
            recover(scene)
        wiped(scene)


def test_an_upload_that_breaks_off_leaves_nothing(scene: Scene, kept: bytes) -> None:
    async def send_half() -> None:
        context = client_context(scene.cluster.os.crt, scene.cluster.admin(), http2=True)
        async with Channel(f"{scene.net}.11", 50000, ssl=context) as channel:
            method = StreamUnaryMethod(channel, "/machine.MachineService/EtcdRecover", pb.Data, pb.DoneResponse)
            async with method.open(timeout=5) as stream:
                await stream.send_message(pb.Data(bytes=kept[:1000]))
                await stream.cancel()

    scene.run(send_half())
    system = scene.system("m1").etcd
    assert system is not None
    assert not system.snapshot.exists()


def test_without_the_word_to_recover_it_begins_anew(scene: Scene, kept: bytes) -> None:
    upload(scene, kept)
    scene.secure("m1", "Bootstrap", pb.BootstrapRequest())
    votes(scene)
    assert len(scene.secure("m1", "EtcdMemberList", pb.EtcdMemberListRequest()).messages[0].members) == 1
    assert scene.system("m1").etcd.snapshot.exists()  # type: ignore[union-attr]
