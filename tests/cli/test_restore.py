"""What a restore says before it asks, and when it does not even ask."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import restore
from cli.observe import Lab
from cli.restore import Live, Planned
from providers.errors import HomelabError, ProtocolError, UserError
from providers.talos.journal import Journal
from providers.talos.restore import Seen
from providers.talos.secrets import SecretsBundle
from providers.talos.snapshot import Snapshot, read
from tests.cli.lab import lab

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[1] / "providers" / "talos" / "snapshots" / "small.db"


def varint(number: int) -> bytes:
    head = b""
    while number > 127:
        head += bytes([number & 127 | 128])
        number >>= 7
    return head + bytes([number])


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def snapshot(age: timedelta | None = timedelta(hours=9), uid: str = "ours") -> Snapshot:
    values = {b"/registry/namespaces/kube-system": b"k8s\0" + field(2, field(1, field(5, uid.encode())))}
    if age is not None:
        renewed = field(4, b"\x08" + varint(int((NOW - age).timestamp())))
        values[b"/registry/leases/kube-system/x"] = b"k8s\0" + field(2, field(2, renewed))
    return Snapshot(Path("s.db"), 4128, "abc", 100, {key: memoryview(value) for key, value in values.items()})


def planned(where: Lab, found: Snapshot, live: Live | None = None, seen: Mapping[str, Seen] | None = None) -> Planned:
    journal = Journal(where.stack.folder / "restore.json", found.sha256)
    return Planned(where, found, SecretsBundle.generate(), journal, dict(seen or {}), live)


def told(plan: Planned) -> str:
    return "\n".join(restore.story(plan, NOW))


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(hours=9), "taken 2026-03-02 03:00 UTC, 9 hours ago"),
        (timedelta(days=12), "12 days ago"),
        (timedelta(minutes=5), "5 minutes ago"),
        (timedelta(seconds=-30), "0 minutes ago"),  # clocks differ
        (None, "age unknown"),
    ],
)
def test_how_old_it_is_is_read_from_what_is_in_it(tmp_path: Path, age: timedelta | None, words: str) -> None:
    assert words in told(planned(lab(tmp_path), snapshot(age)))


def test_what_is_lost(tmp_path: Path) -> None:
    where = lab(tmp_path, control_planes=3, workers=1)
    assert "the 350 changes since then" in told(planned(where, snapshot(), Live(450, "ours")))
    assert "it began anew since" in told(planned(where, snapshot(), Live(450, "another")))
    assert "no API server answers" in told(planned(where, snapshot()))
    text = told(planned(where, snapshot()))
    assert "node1, node2, node3: the EPHEMERAL partition is wiped" in text
    assert "node4: rebooted, disks untouched" in text
    assert "Longhorn" not in text


def test_longhorns_replicas_on_control_planes_are_named(tmp_path: Path) -> None:
    where = lab(tmp_path)
    plan = planned(where, snapshot())
    for path, schedule, named in (
        ("/var/lib/longhorn", True, True),
        ("/var/mnt/longhorn", True, False),
        ("/var/lib/longhorn", False, False),
    ):
        longhorn = type("Longhorn", (), {"enabled": True, "data_path": path})()
        platform = where.settings.platform.model_copy(update={"longhorn": longhorn})
        cluster = where.settings.cluster.model_copy(update={"schedule_on_control_planes": schedule})
        changed = where.settings.model_copy(update={"platform": platform, "cluster": cluster})
        plan = planned(Lab(where.stack, changed, None, None), snapshot())
        assert ("Longhorn's replicas" in told(plan)) is named


def test_a_restore_that_was_interrupted_is_told(tmp_path: Path) -> None:
    plan = planned(lab(tmp_path), snapshot())
    assert "interrupted" not in told(plan)
    plan.journal.emptied(["b1"])
    again = planned(plan.lab, snapshot())
    assert "interrupted" in told(again)
    assert restore.rescue(again) is None


def test_nothing_that_runs_means_nothing_to_keep(tmp_path: Path) -> None:
    assert restore.rescue(planned(lab(tmp_path), snapshot(), seen={"node1": Seen("Preparing", "b1")})) is None


def test_the_snapshot_is_read_before_any_node_is_asked(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(EXAMPLE.read_bytes()[:-1])
    with pytest.raises(ProtocolError, match="cut short"):
        restore.check(lab(tmp_path), broken)
    with pytest.raises(UserError, match="No such file"):
        restore.check(lab(tmp_path), tmp_path / "none.db")


def test_without_a_cluster_there_is_nothing_to_restore(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cluster is known here"):
        restore.check(lab(tmp_path), EXAMPLE)


def test_a_control_plane_that_is_away_holds_it_back(tmp_path: Path) -> None:
    bare = lab(tmp_path, control_planes=2)
    where = Lab(bare.stack, bare.settings, SecretsBundle.generate().issue_client(), None)
    with pytest.raises(HomelabError, match="no answer from node1, node2: every control plane is wiped first"):
        restore.check(where, EXAMPLE)


def test_after_an_interruption_a_control_plane_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = lab(tmp_path, control_planes=1)
    where = Lab(bare.stack, bare.settings, SecretsBundle.generate().issue_client(), None)
    monkeypatch.setattr(restore, "REBOOT_S", 0.2)
    Journal(where.stack.folder / "restore.json", read(EXAMPLE).sha256).begin()
    with pytest.raises(HomelabError, match="no answer from node1: every control plane"):
        restore.check(where, EXAMPLE)
    assert "no answer from node1, which the interrupted restore may have rebooted" in capsys.readouterr().err
