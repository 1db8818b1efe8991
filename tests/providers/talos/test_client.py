"""The client against a real TLS and gRPC server: replies, errors, deadlines, broken connections."""

import asyncio
import hashlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from providers.errors import ProtocolError, UnreachableError, UserError
from providers.talos import methods, snapshot
from providers.talos.api import talos_pb2 as pb
from providers.talos.client import ApplyMode, HandshakeError, Talos, TalosError
from providers.talos.transport import parse_address


@pytest.fixture
def node(start_node, bundle):
    return start_node(bundle.os)


@pytest.fixture
def talos(node, bundle):
    with Talos.secure(node.address, bundle.issue_client()) as client:
        yield client


def version(tag="v1.13.9"):
    return pb.VersionResponse(messages=[pb.Version(version=pb.VersionInfo(tag=tag, arch="arm64"))])


def resource(yaml_spec):
    return pb.Resource(spec=pb.ResourceSpec(yaml_spec=yaml_spec))


def test_version(node, talos):
    node.answer(methods.VERSION, lambda _: version())
    assert (talos.version().tag, talos.version().arch) == ("v1.13.9", "arm64")


def test_maintenance_mode_takes_a_client_without_certificates(start_node, other_ca):
    node = start_node(other_ca, wants_certificate=False)
    disk = pb.Disk(device_name="/dev/mmcblk0", size=32, type=pb.Disk.SD)
    node.answer(methods.DISKS, lambda _: pb.DisksResponse(messages=[pb.Disks(disks=[disk])]))
    with Talos.insecure(node.address) as talos:
        (found,) = talos.disks()
    assert (found.device, found.size_bytes, found.kind) == ("/dev/mmcblk0", 32, "sd")


def test_apply_sends_the_mode_and_tells_what_was_chosen(node, talos):
    asked = []

    def answer(request):
        asked.append(request)
        reply = pb.ApplyConfiguration(mode=pb.ApplyConfigurationRequest.STAGED, mode_details="later", warnings=["w"])
        return pb.ApplyConfigurationResponse(messages=[reply])

    node.answer(methods.APPLY_CONFIGURATION, answer)
    applied = talos.apply_configuration("machine: {}", ApplyMode.TRY, dry_run=True, try_s=30)
    assert (applied.mode, applied.details, applied.warnings) == (ApplyMode.STAGED, "later", ("w",))
    assert asked[0].data == b"machine: {}"
    assert (asked[0].mode, asked[0].dry_run, asked[0].try_mode_timeout.seconds) == (4, True, 30)


def test_an_error_keeps_its_code_and_words(node, talos):
    node.answer(methods.BOOTSTRAP, lambda _: GRPCError(Status.ALREADY_EXISTS, "etcd data directory is not empty"))
    with pytest.raises(TalosError, match=r"Bootstrap: etcd data directory is not empty \(ALREADY_EXISTS\)") as caught:
        talos.bootstrap()
    assert caught.value.code == "ALREADY_EXISTS"


def test_an_error_is_one_line_without_the_configs_secrets(node, talos):
    words = "this config change can't be applied in immediate mode\ndiff:\n-  token: s3cret\n+  token: other"
    node.answer(methods.APPLY_CONFIGURATION, lambda _: GRPCError(Status.INVALID_ARGUMENT, words))
    with pytest.raises(TalosError) as caught:
        talos.apply_configuration("machine: {}", ApplyMode.NO_REBOOT)
    assert str(caught.value).endswith("can't be applied in immediate mode (INVALID_ARGUMENT)")


def test_a_method_that_maintenance_mode_lacks(node, talos):
    with pytest.raises(TalosError) as caught:
        talos.bootstrap()
    assert caught.value.code == "UNIMPLEMENTED"


def test_unavailable_is_unreachable(node, talos):
    node.answer(methods.VERSION, lambda _: GRPCError(Status.UNAVAILABLE, "connection refused"))
    with pytest.raises(UnreachableError, match="connection refused"):
        talos.version()


def test_an_error_in_the_metadata_of_a_good_reply_is_raised(node, talos):
    hidden = pb.Metadata(hostname="node2", error="not authorized", status=pb.RpcStatus(code=7))
    node.answer(methods.VERSION, lambda _: pb.VersionResponse(messages=[pb.Version(metadata=hidden)]))
    with pytest.raises(TalosError, match="node2: Version: not authorized") as caught:
        talos.version()
    assert caught.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize("messages", [[], [pb.Version(), pb.Version()]])
def test_a_reply_without_exactly_one_message(node, talos, messages):
    node.answer(methods.VERSION, lambda _: pb.VersionResponse(messages=messages))
    with pytest.raises(ProtocolError, match="messages instead of one"):
        talos.version()


def test_a_silent_server_ends_at_the_deadline_and_the_next_call_connects_anew(node, talos):
    """4b.18: a half-open connection costs one deadline, not for ever."""
    silent = True

    async def answer():
        if silent:
            await asyncio.sleep(2)
        return version()

    node.answer(methods.VERSION, lambda _: answer())
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no answer within 0\.3 s"):
        talos.version(timeout_s=0.3)
    assert time.monotonic() - begin < 1
    silent = False
    assert talos.version().tag == "v1.13.9"


def test_a_host_that_accepts_and_says_nothing(bundle):
    with socket.create_server(("127.106.0.1", 0)) as mute:
        address = f"127.106.0.1:{mute.getsockname()[1]}"
        with Talos.secure(address, bundle.issue_client()) as talos, pytest.raises(UnreachableError, match=r"0\.2 s"):
            talos.version(timeout_s=0.2)


def test_after_a_restart_the_same_client_works_again(node, talos):
    node.answer(methods.VERSION, lambda _: version())
    talos.version()
    node.stop()
    with pytest.raises(UnreachableError):
        talos.version(timeout_s=1)
    node.start()
    assert talos.version().tag == "v1.13.9"


def test_connection_refused(node, talos):
    node.stop()
    with pytest.raises(UnreachableError, match="Version: no connection"):
        talos.version()


def test_a_node_of_another_cluster_or_in_maintenance_mode(start_node, other_ca, bundle):
    node = start_node(other_ca, wants_certificate=False)
    with Talos.secure(node.address, bundle.issue_client()) as talos, pytest.raises(HandshakeError, match="maintenance"):
        talos.version()


def test_no_certificate_shown_to_a_configured_node(node):
    with Talos.insecure(node.address) as talos, pytest.raises((HandshakeError, UnreachableError)):
        talos.version(timeout_s=2)


def test_something_that_is_not_tls(bundle):
    with socket.create_server(("127.106.0.1", 0)) as plain:

        def greet():
            connection, _ = plain.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        address = f"127.106.0.1:{plain.getsockname()[1]}"
        with Talos.secure(address, bundle.issue_client()) as talos, pytest.raises((HandshakeError, UnreachableError)):
            talos.version(timeout_s=2)
        thread.join()


def test_the_machine_config_comes_out_of_its_yaml_string(node, talos):
    node.answer(methods.COSI_GET, lambda _: pb.GetResponse(resource=resource("|\n  machine: {}\n  ---\n  kind: X\n")))
    assert talos.machine_config() == "machine: {}\n---\nkind: X\n"


def test_the_machine_config_of_old_versions_is_the_map_itself(node, talos):
    node.answer(methods.COSI_GET, lambda _: pb.GetResponse(resource=resource("machine: {}\n")))
    assert talos.machine_config() == "machine: {}\n"


def test_stage(node, talos):
    spec = "stage: booting\nstatus:\n  ready: false\n  unmetConditions:\n    - name: time\n      reason: not in sync\n"
    node.answer(methods.COSI_GET, lambda _: pb.GetResponse(resource=resource(spec)))
    stage = talos.machine_stage()
    assert (stage.name, stage.ready, stage.unmet) == ("booting", False, ("time: not in sync",))


def test_addresses_and_schematic_come_from_lists(node, talos):
    specs = {
        "AddressStatuses.net.talos.dev": ["address: 10.0.0.1/24", "address: 10.0.0.9/32", "address: 10.0.0.1/32"],
        "ExtensionStatuses.runtime.talos.dev": [
            "metadata: {name: iscsi-tools, version: v0.1}",
            "metadata: {name: schematic, version: abc}",
        ],
    }
    node.answer(methods.COSI_LIST, lambda asked: [pb.ListResponse(resource=resource(s)) for s in specs[asked.type]])
    assert talos.addresses() == ("10.0.0.1", "10.0.0.9")
    assert talos.schematic() == "abc"
    specs["ExtensionStatuses.runtime.talos.dev"] = []
    assert talos.schematic() is None


@pytest.mark.parametrize("spec", ["just words", "a: [", ""])
def test_a_resource_that_makes_no_sense(node, talos, spec):
    node.answer(methods.COSI_GET, lambda _: pb.GetResponse(resource=resource(spec)))
    with pytest.raises(ProtocolError, match="MachineStatuses"):
        talos.machine_stage()


def test_boot_id_is_read_in_pieces(node, talos):
    node.answer(methods.READ, lambda _: [pb.Data(content=b"1234-"), pb.Data(content=b"5678\n")])
    assert talos.boot_id() == "1234-5678"


def test_etcd(node, talos):
    removed: list[int] = []
    member = pb.EtcdMember(id=2**63 + 1, hostname="node1", peer_urls=["https://10.0.0.1:2380"], is_learner=True)
    node.answer(
        methods.ETCD_MEMBER_LIST, lambda _: pb.EtcdMemberListResponse(messages=[pb.EtcdMembers(members=[member])])
    )
    node.answer(methods.ETCD_REMOVE_MEMBER, lambda asked: _acknowledge(removed, asked.member_id))
    reply = pb.EtcdForfeitLeadershipResponse(messages=[pb.EtcdForfeitLeadership(member="node2")])
    node.answer(methods.ETCD_FORFEIT_LEADERSHIP, lambda _: reply)
    status = pb.EtcdMemberStatus(member_id=5, leader=7, errors=["NOSPACE"])
    node.answer(methods.ETCD_STATUS, lambda _: pb.EtcdStatusResponse(messages=[pb.EtcdStatus(member_status=status)]))
    (found,) = talos.etcd_members()
    assert (found.id, found.hostname, found.learner) == (2**63 + 1, "node1", True)
    talos.etcd_remove_member(found.id)
    assert removed == [2**63 + 1]
    assert talos.etcd_forfeit_leadership() == "node2"
    assert (talos.etcd_status().leader, talos.etcd_status().errors) == (7, ("NOSPACE",))


def _acknowledge(seen, value):
    seen.append(value)
    return pb.AcknowledgementResponse(messages=[pb.Acknowledgement()])


def test_reset_names_the_partitions(node, talos):
    seen: list[Any] = []
    node.answer(methods.RESET, lambda asked: _acknowledge(seen, asked))
    talos.reset(graceful=False, reboot=True)
    assert [(item.label, item.wipe) for item in seen[0].system_partitions_to_wipe] == [
        ("STATE", True),
        ("EPHEMERAL", True),
    ]
    with pytest.raises(ValueError, match="boot image"):
        talos.reset(graceful=False, reboot=True, wipe_labels=())
    assert len(seen) == 1


def test_services(node, talos):
    etcd = pb.ServiceInfo(id="etcd", state="Preparing", health=pb.ServiceHealth(unknown=True))
    kubelet = pb.ServiceInfo(id="kubelet", state="Running", health=pb.ServiceHealth(healthy=True, last_message="ok"))
    reply = pb.ServiceListResponse(messages=[pb.ServiceList(services=[etcd, kubelet])])
    node.answer(methods.SERVICE_LIST, lambda _: reply)
    services = talos.services()
    assert (services["etcd"].state, services["etcd"].healthy) == ("Preparing", None)
    assert services["kubelet"].healthy is True


def whole_snapshot():
    body = b"\1" * 1024
    return body + hashlib.sha256(body).digest()


def pieces(data):
    return [pb.Data(content=data[at : at + 300]) for at in range(0, len(data), 300)]


def test_a_snapshot_is_verified_and_private(node, talos, tmp_path):
    node.answer(methods.ETCD_SNAPSHOT, lambda _: pieces(whole_snapshot()))
    path = tmp_path / "etcd.snapshot"
    assert talos.etcd_snapshot(path) == 1056
    assert path.read_bytes() == whole_snapshot()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damaged", [b"", whole_snapshot()[:-1], whole_snapshot()[512:], b"\2" + whole_snapshot()[1:]], ids=range(4)
)
def test_a_damaged_snapshot_leaves_the_old_one(node, talos, tmp_path, damaged):
    path = tmp_path / "etcd.snapshot"
    path.write_bytes(b"old")
    node.answer(methods.ETCD_SNAPSHOT, lambda _: pieces(damaged))
    with pytest.raises(ProtocolError, match="etcd snapshot is"):
        talos.etcd_snapshot(path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir() if "snapshot" in file.name] == ["etcd.snapshot"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_taken_for_a_broken_connection():
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        pytest.raises(UserError, match="/dev/full: can't be written: No space left"),
    ):
        snapshot._write(file, b"x")


def test_several_clients_at_once(node, bundle):
    node.answer(methods.VERSION, lambda _: version())
    tags = []

    def ask():
        with Talos.secure(node.address, bundle.issue_client()) as talos:
            tags.append(talos.version().tag)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert tags == ["v1.13.9"] * 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 50000)),
        ("10.0.0.1:1234", ("10.0.0.1", 1234)),
        ("node1.home.arpa", ("node1.home.arpa", 50000)),
        ("fd00::1", ("fd00::1", 50000)),
        ("[fd00::1]:1234", ("fd00::1", 1234)),
        ("[fd00::1]", ("fd00::1", 50000)),
    ],
)
def test_addresses_with_and_without_port(text, expected):
    assert parse_address(text) == expected


def test_a_port_that_is_no_number():
    with pytest.raises(UserError, match="ip:port"):
        parse_address("10.0.0.1:https")
