"""Each kind of drift from recorded answers, and what is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from drift.applied import Applied, read
from drift.findings import Kind, Report
from drift.helm import Record
from drift.judge import Declared, judge
from drift.look import Cluster, Seen
from drift.objects import Live, Silence
from providers.kubernetes.client import NodeView
from providers.longhorn.scene import observe
from providers.talos.client import EtcdMember, Mode
from providers.talos.leave import Etcd
from settings import Settings
from tests.cli.lab import settings
from tests.drift.state import resources
from tests.providers.longhorn.cluster import Longhorn, node, replica, volume

BOARD = "board1"


def view(name: str) -> NodeView:
    return NodeView(name, f"uid-{name}", True, "", "", "", (), False)


def member(name: str, number: int, *, learner: bool = False) -> EtcdMember:
    return EtcdMember(number, name, (f"https://127.107.2.{number}:2380",), (), learner)


def live(applied: Applied) -> tuple[tuple[Any, Live], ...]:
    """Everything as it was applied."""
    data = {"data": {"TOKEN": "dGstaHVudGVyMg=="}}
    return tuple((item, {**item.manifest, **(data if item.kind == "Secret" else {})}) for item in applied.objects)


def whole(applied: Applied, **cluster: Any) -> Seen:
    """A lab of one control plane and one worker in which nothing is wrong."""
    (release,) = applied.releases
    found: dict[str, Any] = {
        "nodes": (view("node1"), view("node2")), "longhorn": None, "objects": live(applied),
        "releases": ((release, Record(2, "deployed", ())),),
    }  # fmt: skip
    return Seen(
        powers={BOARD: {1: True, 2: True, 3: False, 4: False}},
        modes={"node1": Mode.OURS, "node2": Mode.OURS},
        configs={"node1": "", "node2": ""},
        etcd=Etcd("127.107.2.1", (member("node1", 1),), frozenset({"node1"})),
        cluster=Cluster(**{**found, **cluster}),
    )


APPLIED = read(resources())


def found(seen: Seen, *, lab: Settings | None = None, applied: Applied | Silence = APPLIED) -> Report:
    return judge(Declared("homelab", lab or settings(), applied), seen)


def kinds(report: Report) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.name) for finding in report.findings]


def but(**changes: Any) -> Seen:
    return dataclasses.replace(whole(APPLIED), **changes)


def clustered(**changes: Any) -> Seen:
    return whole(APPLIED, **changes)


def test_nothing_differs() -> None:
    assert found(whole(APPLIED)) == Report()


def test_powered_off_by_hand() -> None:
    report = found(but(powers={BOARD: {1: True, 2: False}}, modes={"node1": Mode.OURS, "node2": Mode.SILENT}))
    assert kinds(report) == [(Kind.POWER_OFF, "node2")]
    assert report.findings[0].repair == ("homelab refresh --stack homelab", "homelab up --stack homelab")


def test_a_host_of_k3s_that_was_worked_on() -> None:
    report = found(but(hosts={"rpi1": "", "rpi2": "k3s is inactive", "rpi3": Silence("no SSH")}))
    assert kinds(report) == [(Kind.HOST_CHANGED, "rpi2")]
    assert report.findings[0].repair == ("homelab refresh --stack homelab", "homelab up --stack homelab")
    assert [(silent.name, silent.why) for silent in report.unasked] == [("rpi3", "no SSH")]


def test_a_module_that_answers_though_its_slot_is_off() -> None:
    report = found(but(powers={BOARD: {1: True, 2: False, 4: True}}))
    assert kinds(report) == [(Kind.POWER_OFF, "node2"), (Kind.ORPHAN_SLOT, "board1/4")]
    assert "was its module moved?" in report.findings[0].what


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (Mode.SILENT, Kind.NOT_ANSWERING),
        (Mode.REFUSED, Kind.NOT_ANSWERING),
        (Mode.MAINTENANCE, Kind.MAINTENANCE),
        (Mode.FOREIGN, Kind.FOREIGN),
    ],
)
def test_a_node_that_is_not_as_it_should_be(mode: Mode, kind: Kind) -> None:
    report = found(but(modes={"node1": Mode.OURS, "node2": mode}))
    assert kinds(report) == [(kind, "node2")]
    assert report.findings[0].repair


def test_config_edited_by_hand() -> None:
    report = found(but(configs={"node1": "", "node2": "its config was changed by hand"}))
    assert kinds(report) == [(Kind.CONFIG_CHANGED, "node2")]


def test_a_node_that_the_cluster_does_not_know() -> None:
    assert kinds(found(clustered(nodes=(view("node1"),)))) == [(Kind.NOT_IN_KUBERNETES, "node2")]


def test_a_control_plane_that_etcd_does_not_list() -> None:
    etcd = Etcd("127.107.2.1", (), frozenset())
    report = found(but(etcd=etcd))
    assert kinds(report) == [(Kind.NOT_IN_ETCD, "node1")]
    assert report.findings[0].repair[0] == "homelab destroy-target node1 --stack homelab"


def objects(change: Any) -> tuple[tuple[Any, Live], ...]:
    return tuple((item, change(answer) if item.kind == "Deployment" else answer) for item, answer in live(APPLIED))


def test_a_charts_object_changed_by_hand() -> None:
    report = found(clustered(objects=objects(lambda live: {**live, "spec": {"replicas": 0}})))
    assert kinds(report) == [(Kind.OBJECT_CHANGED, "Deployment/web/web")]
    assert report.findings[0].fields == ("spec.replicas",)


def test_an_object_deleted_by_hand() -> None:
    assert kinds(found(clustered(objects=objects(lambda _: None)))) == [(Kind.OBJECT_DELETED, "Deployment/web/web")]


def test_an_object_that_could_not_be_asked_for() -> None:
    report = found(clustered(objects=objects(lambda _: Silence("403"))))
    assert report.findings == ()
    assert [(silent.name, silent.why) for silent in report.unasked] == [("Deployment/web/web", "403")]


def test_no_secret_is_told() -> None:
    wrong = tuple((item, {**item.manifest, "data": {"TOKEN": "bGV0bWVpbg=="}}) for item in APPLIED.objects)
    report = found(clustered(objects=wrong))
    assert kinds(report) == [(Kind.OBJECT_CHANGED, "Secret/web/env")]
    assert not {"hunter2", "letmein", "bGV0bWVpbg"} & set(str(report).replace("'", " ").split())
    assert "hunter2" not in str(report)
    assert "bGV0" not in str(report)


def test_a_release_that_helm_was_run_on_by_hand() -> None:
    (release,) = APPLIED.releases
    for record in (Record(3, "deployed", ()), None):
        report = found(clustered(releases=((release, record),)))
        assert kinds(report) == [(Kind.RELEASE_CHANGED, "Release/longhorn-system/longhorn")]


def test_an_object_of_a_release_is_mended_from_helms_own_record() -> None:
    (release,) = APPLIED.releases
    item = next(item for item in APPLIED.objects if item.kind == "Deployment")
    seen = clustered(objects=((item, None),), releases=((release, Record(2, "deployed", (item,))),))
    (finding,) = found(seen).findings
    assert finding.repair[0].startswith("helm -n longhorn-system get manifest longhorn | kubectl apply")


def test_orphans_of_every_list() -> None:
    longhorn = Longhorn([node("node9")], [volume("a", 1)], [replica("a", "node9")])
    etcd = Etcd("127.107.2.1", (member("node1", 1), member("node9", 9)), frozenset({"node1", "node9"}))
    seen = dataclasses.replace(
        clustered(nodes=(view("node1"), view("node2"), view("node9")), longhorn=observe(longhorn)),
        etcd=etcd, powers={BOARD: {1: True, 2: True, 4: True}},
    )  # fmt: skip
    report = found(seen)
    assert kinds(report) == [
        (Kind.ORPHAN_ETCD_MEMBER, "node9"),
        (Kind.ORPHAN_NODE, "node9"),
        (Kind.ORPHAN_LONGHORN_NODE, "node9"),
        (Kind.ORPHAN_SLOT, "board1/4"),
    ]
    assert [finding.key for finding in report.orphans] == [
        "orphan_etcd_member/node9/9",
        "orphan_node/node9/uid-node9",
        "orphan_longhorn_node/node9",
        "orphan_slot/board1/4",
    ]
    assert {finding.repair for finding in report.findings} == {("homelab drift --remove --stack homelab",)}


def test_a_member_that_never_started_is_known_by_its_address() -> None:
    seen = but(etcd=Etcd("127.107.2.1", (member("node1", 1), member("", 2), member("", 7)), frozenset({"node1"})))
    assert kinds(found(seen)) == [(Kind.ORPHAN_ETCD_MEMBER, "127.107.2.7")]  # 127.107.2.2 is node2's


def disabled() -> Settings:
    """node2 is out, by the settings."""
    lab = settings()
    return lab.model_copy(
        update={"nodes": {**lab.nodes, "node2": lab.nodes["node2"].model_copy(update={"disabled": True})}}
    )


def test_what_an_up_is_still_to_take_out_is_no_drift() -> None:
    assert found(whole(APPLIED), lab=disabled()) == Report()


def test_what_is_disabled_and_runs_is_told_and_never_taken_away() -> None:
    gone = dataclasses.replace(APPLIED, machines={"node1": APPLIED.machines["node1"]}, slots={})
    report = found(whole(APPLIED), lab=disabled(), applied=gone)
    assert kinds(report) == [(Kind.ORPHAN_NODE, "node2"), (Kind.ORPHAN_SLOT, "board1/2")]
    assert all(finding.declared for finding in report.findings)
    assert not any("--remove" in line for finding in report.findings for line in finding.repair)


def test_what_an_up_is_still_to_make_is_no_drift() -> None:
    seen = but(
        powers={BOARD: {1: True, 2: True, 3: False}},
        modes={"node1": Mode.OURS, "node2": Mode.OURS, "node3": Mode.SILENT},
    )
    assert found(seen, lab=settings(workers=2)) == Report()


def test_what_the_settings_do_not_have_any_more_and_the_state_does_is_no_orphan() -> None:
    lab = settings()
    without = lab.model_copy(update={"nodes": {"node1": lab.nodes["node1"]}})
    assert found(whole(APPLIED), lab=without) == Report()


def test_a_node_that_is_to_move_to_another_slot_is_not_looked_for_there() -> None:
    lab = settings()
    moved = lab.nodes["node2"].model_copy(update={"machine": lab.nodes["node2"].machine.model_copy(update={"slot": 3})})
    lab = lab.model_copy(update={"nodes": {**lab.nodes, "node2": moved}})
    assert found(whole(APPLIED), lab=lab) == Report()


def test_nothing_at_all_answers() -> None:
    silence = Silence("no answer")
    seen = Seen({BOARD: silence}, {"node1": Mode.SILENT, "node2": Mode.SILENT}, {}, silence, silence)
    report = found(seen)
    assert report.blind
    assert report.findings == ()
    assert report.hides("orphan_node/x")


def test_what_gave_no_answer_is_named() -> None:
    silence = Silence("no answer")
    seen = but(powers={BOARD: silence}, etcd=silence, cluster=silence, configs={"node1": silence, "node2": ""})
    report = found(seen, applied=APPLIED)
    assert report.findings == ()
    assert [silent.name for silent in report.unasked] == [BOARD, "node1's config", "etcd", "Kubernetes"]
    assert report.hides("orphan_slot/board1/4")
    assert report.hides("orphan_etcd_member/node9/9")
    assert report.hides("orphan_longhorn_node/node9")


def test_a_state_that_cannot_be_read_is_named_and_the_settings_count() -> None:
    seen = but(powers={BOARD: {1: True, 2: False}})
    report = found(seen, applied=Silence("no passphrase"))
    assert (Kind.POWER_OFF, "node2") in kinds(report)
    assert report.unasked[0].why == "no passphrase"


def test_longhorn_that_is_not_asked() -> None:
    report = found(clustered(longhorn=Silence("503")))
    assert [silent.name for silent in report.unasked] == ["Longhorn"]
