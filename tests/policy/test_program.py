"""The rules in the program: what it knows of the lab, in which words it stops, and when it only warns."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from policy import backups, known, program
from policy.known import Known, KnownNode
from policy.load import load
from policy.models import Policy, Reaction
from policy.rules import Facts, breaches
from providers.errors import HomelabError
from settings.yamlfile import parse
from tests.components.house import LOOP
from tests.drift.state import component, dynamic, kubernetes
from tests.policy.lab import EXTENSIONS, KUBERNETES, SECTIONS, TALOS, lab

NOW = datetime.now(UTC).replace(microsecond=0)
ROOT = Path(__file__).parents[2]


def resources(talos: str = TALOS) -> list[dict[str, Any]]:
    """A state of two nodes, an application with a volume, and Longhorn."""
    made: list[dict[str, Any]] = []
    for name in ("node1", "node4"):
        own = component("Node", name)
        spec = {"talos": talos, "kubernetes": KUBERNETES, "extensions": sorted(EXTENSIONS)}
        flash = dynamic("turingpi:Flash", f"{name}-flash", {"node": name, "generation": 1.0}, own)
        made += [own, flash, dynamic("talos:Machine", f"{name}-machine", {"node": name, "spec": spec}, own)]
    dns, web = component("Dns", "dns"), component("Application", "web")
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "adguard"}}
    return [*made, dns, kubernetes("dns/adguard", claim, dns), web, component("Longhorn", "longhorn")]


# -- what is known ----------------------------------------------------------------------------------------------


def test_what_the_state_says() -> None:
    found = known.read(resources())
    assert found.nodes == {name: KnownNode(1, TALOS, KUBERNETES, EXTENSIONS) for name in ("node1", "node4")}
    assert found.stores == {"dns", "longhorn"}


def test_a_node_that_was_only_flashed() -> None:
    assert known.read(resources()[:2]).nodes == {"node1": KnownNode(1)}


def test_an_empty_state_knows_nothing() -> None:
    assert known.read([]) == Known()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `pulumi` on PATH that says what the file `export` beside it holds, and fails where there is none."""
    script = tmp_path / "bin" / "pulumi"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\nfile = pathlib.Path(__file__).with_name('export')\n"
        "assert sys.argv[1:] == ['stack', 'export', '--stack', 'homelab', '--non-interactive'], sys.argv\n"
        "sys.exit('error: no stack named homelab') if not file.exists() else print(file.read_text())\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent) + os.pathsep + os.environ["PATH"])
    return script.with_name("export")


def test_the_engine_is_asked_for_the_state(engine: Path) -> None:
    engine.write_text(json.dumps({"version": 3, "deployment": {"resources": resources()}}))
    assert set(known.ask("homelab").nodes) == {"node1", "node4"}
    engine.write_text(json.dumps({"version": 3}))
    assert known.ask("homelab") == Known()


def test_an_engine_that_has_no_state(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HomelabError, match="pulumi stack export: no stack named homelab"):
        known.ask("homelab")
    engine.write_text("nonsense")
    with pytest.raises(HomelabError, match="pulumi stack export"):
        known.ask("homelab")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HomelabError, match="pulumi stack export"):
        known.ask("homelab")


# -- backups ----------------------------------------------------------------------------------------------------


def backup(folder: Path, at: datetime, cluster: str = "home") -> None:
    (folder / "backups").mkdir(parents=True, exist_ok=True)
    (folder / "backups" / f"etcd-{cluster}-{at:%Y%m%dT%H%M%SZ}.db").write_bytes(b"")


def test_the_newest_backup_of_this_cluster_counts(tmp_path: Path) -> None:
    assert backups.newest(tmp_path, "home", NOW) is None
    for hours in (30, 3, 9):
        backup(tmp_path, NOW - timedelta(hours=hours))
    backup(tmp_path, NOW - timedelta(hours=1), "another-home")
    backup(tmp_path, NOW + timedelta(hours=1))
    (tmp_path / "backups" / "my own.db").write_bytes(b"")
    assert backups.newest(tmp_path, "home", NOW) == NOW - timedelta(hours=3)


def test_the_nightly_job_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup(tmp_path, NOW - timedelta(hours=30))
    monkeypatch.setattr(backups, "_nightly", lambda _: NOW - timedelta(hours=5))
    assert backups.newest(tmp_path, "home", NOW, NOW - timedelta(hours=24)) == NOW - timedelta(hours=5)


def test_a_fresh_one_here_asks_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup(tmp_path, NOW - timedelta(hours=3))
    monkeypatch.setattr(backups, "_nightly", lambda _: pytest.fail("the cluster was asked"))
    assert backups.newest(tmp_path, "home", NOW, NOW - timedelta(hours=24)) == NOW - timedelta(hours=3)


def test_a_cluster_that_does_not_answer_tells_of_none(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("no kubeconfig")
    assert backups.newest(tmp_path, "home", NOW) is None


@pytest.mark.parametrize(
    ("job", "at"),
    [
        ({"status": {"lastSuccessfulTime": "2026-03-01T03:31:07Z"}}, datetime(2026, 3, 1, 3, 31, 7, tzinfo=UTC)),
        ({"status": {"lastSuccessfulTime": "soon"}}, None),
        ({"status": {}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_what_a_cronjob_says(job: Any, at: datetime | None) -> None:
    assert backups.last_success(job) == at


# -- the words --------------------------------------------------------------------------------------------------


def test_a_broken_rule_is_told_with_both_places_and_how_to_mend_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("# ours\ncontrol_planes:\n  at_least: 5\n")
    rules = load(file)
    (found,) = breaches(rules.policy, lab(), Facts(None, None, NOW))
    document = parse("config:\n  homelab:cluster: {}\n  homelab:nodes: {}\n")
    (line,) = program.told([found], Reaction.REFUSE, rules, program.Lines("Pulumi.homelab.yaml", document))
    assert line == (
        "control_planes.at_least (policy.yaml line 3): Pulumi.homelab.yaml line 3, nodes: 3 control planes "
        "(node1, node2, node3) where at least 5 are wanted; give 2 more nodes the role controlplane, or lower the rule"
    )


def test_a_default_that_warns_says_that_it_is_one() -> None:
    assert load(ROOT / "policy.yaml").place(("versions", "floating")) == "the default"


# -- in the program ---------------------------------------------------------------------------------------------


class Nothing(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return "", {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], None]:
        return {}, None


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the lab's settings file, in which the program runs."""
    config = {f"homelab:{name}": section for name, section in SECTIONS.items()}
    (tmp_path / "Pulumi.homelab.yaml").write_text(yaml.safe_dump({"config": config}, sort_keys=False))
    monkeypatch.setenv("HOMELAB_STACK_FILE", str(tmp_path / "Pulumi.homelab.yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(
    rules: str,
    house: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any] | None = None,
    *,
    preview: bool = False,
) -> list[str]:
    """Hold the lab against the rules; gives the warnings."""
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_, **__: warned.append(text))
    asyncio.set_event_loop(LOOP)
    pulumi.runtime.set_mocks(Nothing(), "homelab", "homelab", preview)
    if rules:
        (house / "policy.yaml").write_text(rules)
    program.hold(lab(change))
    return warned


def test_no_file_stops_nobody_and_asks_nobody(house: Path, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("", house, monkeypatch) == []


def test_what_is_probably_not_meant_is_warned_of(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = run("", house, monkeypatch, {"platform/applications/web/image": "redis:7"})
    assert line.startswith("versions.floating (the default): Pulumi.homelab.yaml line ")
    assert "platform.applications.web.image: 'redis:7' names only a major version; write a version that stays" in line


@pytest.mark.parametrize("preview", [True, False])
def test_every_broken_rule_stops_preview_and_up(
    house: Path, engine: Path, monkeypatch: pytest.MonkeyPatch, preview: bool
) -> None:
    engine.write_text(json.dumps({"deployment": {"resources": resources("v1.12.7")}}))
    knows_the_cluster(house)
    rules = "control_planes: {at_least: 5}\nwipe: {acknowledge: true}\nbackups: {max_age_hours: 24}\n"
    with pytest.raises(pulumi.RunError) as caught:
        run(rules, house, monkeypatch, {"nodes/node1/generation": 2}, preview=preview)
    first, *lines = str(caught.value).splitlines()
    assert first == "policy.yaml: 5 rules broken; nothing was touched"
    assert [line.split(" (")[0].strip() for line in lines] == [
        "control_planes.at_least",
        *["wipe.acknowledge"] * 3,  # node1's disk; dns and longhorn are in the state and not in the settings
        "backups.max_age_hours",
    ]


def test_a_backup_on_this_machine_lets_the_upgrade_pass(
    house: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.write_text(json.dumps({"deployment": {"resources": resources("v1.12.7")}}))
    backup(house / ".homelab" / "homelab", NOW - timedelta(hours=3))
    assert run("backups: {max_age_hours: 24}\n", house, monkeypatch) == []


def knows_the_cluster(house: Path) -> None:
    """An `up` has been run on this machine."""
    (house / ".homelab" / "homelab").mkdir(parents=True, exist_ok=True)
    (house / ".homelab" / "homelab" / "kubeconfig").write_text("{}")


def test_a_preview_on_a_machine_that_never_saw_the_cluster_warns_of_backups(
    house: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.write_text(json.dumps({"deployment": {"resources": resources("v1.12.7")}}))
    rules = "backups: {max_age_hours: 24}\n"
    (line,) = run(rules, house, monkeypatch, preview=True)
    assert "no backup of etcd is known" in line
    with pytest.raises(pulumi.RunError, match="no backup of etcd is known"):
        run(rules, house, monkeypatch)
    knows_the_cluster(house)
    with pytest.raises(pulumi.RunError, match="no backup of etcd is known"):
        run(rules, house, monkeypatch, preview=True)


def test_without_the_state_a_preview_warns_and_an_up_stops(
    house: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = "wipe: {acknowledge: true}\n"
    (line,) = run(rules, house, monkeypatch, preview=True)
    assert "what is there is not known, so wipe and backups can't be judged: pulumi stack export" in line
    with pytest.raises(pulumi.RunError, match="can't be judged"):
        run(rules, house, monkeypatch)


def test_a_policy_for_other_stacks_is_not_held(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("stacks: [another]\ncontrol_planes: {at_least: 9}\n", house, monkeypatch) == []


def test_mistakes_in_the_file_stop_the_program(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        pulumi.RunError, match=r"policy\.yaml: 1 mistake\n  wipes \(line 1\): is no rule; did you mean wipe"
    ):
        run("wipes: {acknowledge: true}\n", house, monkeypatch)


def test_the_program_holds_the_rules_before_it_builds_anything() -> None:
    lines = [
        line for line in (ROOT / "__main__.py").read_text().splitlines() if line and not line.startswith(("#", '"'))
    ]
    body = lines[lines.index("lab = settings.from_pulumi()") :]
    assert body[1] == "policy.hold(lab)"


def test_rules_that_are_off_ask_nothing() -> None:
    assert not Policy.model_validate({"control_planes": {"at_least": 3}}).asks_the_state
    assert Policy.model_validate({"backups": {"max_age_hours": 1}}).asks_the_state
