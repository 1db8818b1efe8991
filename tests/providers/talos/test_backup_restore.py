"""Restoring: what each control plane needs next, what is remembered, and what the calls send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import ProtocolError, UserError
from providers.talos import backup, methods
from providers.talos.access import AccessProvider, contexts
from providers.talos.api import talos_pb2 as pb
from providers.talos.client import Talos, TalosError
from providers.talos.journal import Entry, Journal
from providers.talos.pki import load_certificate
from providers.talos.restore import HAS_ETCD, Seen, Step, step
from providers.talos.secrets import SecretsBundle, read_talosconfig, talosconfig

Start = Callable[..., Any]
SNAPSHOT = Path(__file__).parent / "snapshots" / "small.db"


@pytest.mark.parametrize(
    ("seen", "asked", "empty", "wanted"),
    [
        (Seen("Running", "b1"), [], [], Step.WIPE),
        (Seen("Preparing", "b1"), [], [], Step.WIPE),  # it may have data and just be booting
        (Seen("Preparing", "b1"), [], ["b1"], Step.EMPTY),  # an interrupted run saw it empty in this very boot
        (Seen("Running", "b1"), [], ["b1"], Step.WIPE),  # and somebody began etcd there since
        (Seen("Running", "b1"), ["b1"], [], Step.WAIT),  # it was told, and takes its time
        (Seen("no answer", ""), ["b1"], [], Step.WAIT),
        (Seen("no answer", ""), [], [], Step.WAIT),
        (Seen("absent", "b2"), ["b1"], [], Step.WAIT),  # booting after the wipe
        (Seen("Preparing", "b2"), ["b1"], [], Step.EMPTY),
        (Seen("Running", "b2"), ["b1"], [], Step.WIPE),  # it joined peers that were not wiped yet
        (Seen("Failed", "b2"), ["b1"], ["b2"], Step.WIPE),
    ],
)
def test_what_a_control_plane_needs(seen: Seen, asked: list[str], empty: list[str], wanted: Step) -> None:
    assert step(seen, asked, empty) is wanted


@given(
    state=st.sampled_from(["Preparing", "Waiting", "absent", "Initialized", *HAS_ETCD]),
    boot=st.sampled_from(["", "b1", "b2", "b3"]),
    asked=st.sets(st.sampled_from(["b1", "b2"])),
    empty=st.sets(st.sampled_from(["b1", "b2", "b3"])),
)
def test_nothing_with_etcd_or_of_an_unknown_boot_passes_for_empty(
    state: str, boot: str, asked: set[str], empty: set[str]
) -> None:
    if step(Seen(state, boot), asked, empty) is Step.EMPTY:
        assert state == "Preparing"
        assert boot not in asked
        assert asked or boot in empty


def test_a_journal_remembers(tmp_path: Path) -> None:
    path = tmp_path / "stack" / "restore.json"
    first = Journal(path, "abc")
    assert not first.resumes
    first.emptied(["b2", "b1"])
    first.begun("node1", "b1")
    first.restarted("node4")
    again = Journal(path, "abc")
    assert again.resumes
    assert again.entry == Entry("abc", ("b1", "b2"), "node1", "b1", ("node4",))
    again.emptied(["b9"])
    assert again.entry == Entry("abc", ("b9",))
    again.end()
    assert not path.exists()


def test_a_journal_of_another_snapshot_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "restore.json"
    Journal(path, "abc").emptied(["b1"])
    other = Journal(path, "def")
    assert not other.resumes
    assert other.entry == Entry("def")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"snapshot": "abc", "what": 1}', "\0", '{"snapshot": "abc", "em'])
def test_a_damaged_journal_counts_for_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "restore.json"
    path.write_text(text)
    assert Journal(path, "abc").entry == Entry("abc")


def test_a_snapshot_is_handed_over_in_parts(start_node: Start, bundle: SecretsBundle, tmp_path: Path) -> None:
    path, node = tmp_path / "s.db", start_node(bundle.os)
    path.write_bytes(bytes(range(256)) * 400)
    received: list[bytes] = []
    node.take_upload(methods.ETCD_RECOVER, received, pb.AcknowledgementResponse(messages=[pb.Acknowledgement()]))
    with Talos.secure(node.address, bundle.issue_client()) as talos:
        talos.etcd_recover(path)
    assert b"".join(received) == path.read_bytes()
    assert len(received) == 4


def test_a_node_that_is_not_ready_for_it(start_node: Start, bundle: SecretsBundle, tmp_path: Path) -> None:
    path, node = tmp_path / "s.db", start_node(bundle.os)
    path.write_bytes(b"x" * 100_000)
    refusal = GRPCError(Status.FAILED_PRECONDITION, "etcd service is not ready for recovery yet")
    node.take_upload(methods.ETCD_RECOVER, [], refusal)
    with Talos.secure(node.address, bundle.issue_client()) as talos, pytest.raises(TalosError) as error:
        talos.etcd_recover(path)
    assert error.value.code == "FAILED_PRECONDITION"


def test_a_bootstrap_that_recovers_says_so(start_node: Start, bundle: SecretsBundle) -> None:
    node, asked = start_node(bundle.os), []

    def answer(request: pb.BootstrapRequest) -> pb.AcknowledgementResponse:
        asked.append(request.recover_etcd)
        return pb.AcknowledgementResponse(messages=[pb.Acknowledgement()])

    node.answer(methods.BOOTSTRAP, answer)
    with Talos.secure(node.address, bundle.issue_client()) as talos:
        talos.bootstrap()
        talos.bootstrap(recover=True)
    assert asked == [False, True]


def sends(node: Any, data: bytes) -> None:
    status = pb.EtcdMemberStatus(leader=7, raft_applied_index=12)
    node.answer(methods.ETCD_STATUS, lambda _: pb.EtcdStatusResponse(messages=[pb.EtcdStatus(member_status=status)]))
    node.answer(methods.ETCD_SNAPSHOT, lambda _: [pb.Data(content=data[:5000]), pb.Data(content=data[5000:])])


def test_a_backup_is_whole_or_not_there(start_node: Start, bundle: SecretsBundle, tmp_path: Path) -> None:
    node, path = start_node(bundle.os), tmp_path / "b.db"
    sends(node, SNAPSHOT.read_bytes())
    taken = backup.take({"node1": node.address}, bundle.issue_client(), path)
    assert (taken.node, taken.led, taken.snapshot.keys) == ("node1", True, 1)
    sends(node, SNAPSHOT.read_bytes()[:-100])
    with pytest.raises(ProtocolError):
        backup.take({"node1": node.address}, bundle.issue_client(), path)
    assert path.read_bytes() == SNAPSHOT.read_bytes()
    assert [file.name for file in tmp_path.iterdir() if "b.db" in file.name] == ["b.db"]


def test_a_place_that_cannot_be_written(start_node: Start, bundle: SecretsBundle, tmp_path: Path) -> None:
    node = start_node(bundle.os)
    sends(node, SNAPSHOT.read_bytes())
    with pytest.raises(UserError, match="can't be written"):
        backup.take({"node1": node.address}, bundle.issue_client(), tmp_path / "none" / "b.db")


def test_the_key_is_issued_again_before_it_expires_or_when_a_control_plane_comes(bundle: SecretsBundle) -> None:
    provider = AccessProvider()
    props = {
        "cluster": "home",
        "control_planes": {"node1": "10.0.0.1"},
        "role": backup.ROLE,
        "os_ca": asdict(bundle.os),
    }
    state = provider.create(props).outs
    assert state is not None
    assert not provider.diff("id", state, props).changes
    more = {**props, "control_planes": {"node1": "10.0.0.1", "node2": "10.0.0.2"}}
    assert provider.diff("id", state, more).changes
    soon = bundle.issue_client([backup.ROLE], timedelta(days=29))
    old = {**state, "talosconfig": talosconfig("0", soon, ["10.0.0.1"])}
    assert provider.diff("id", old, props).changes
    renewed = provider.update("id", old, props).outs
    assert renewed is not None
    assert not provider.diff("id", renewed, props).changes


def test_a_key_for_backups_holds_one_context_for_each_control_plane(bundle: SecretsBundle) -> None:
    text = contexts({"node2": "10.0.0.2", "node1": "10.0.0.1"}, bundle.os, backup.ROLE)
    for name in ("0", "1"):
        subject = load_certificate(read_talosconfig(text, name).crt).subject
        assert subject.rfc4514_string() == "O=os:etcd:backup"
    assert text.index("10.0.0.1") < text.index("10.0.0.2")
