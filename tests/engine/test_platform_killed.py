"""`up` killed while the platform is built: the next run goes on, and leaves what one run would have left.

Failure modes 4d.36 and 4d.37, and proof 7 of the platform.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.errors import HomelabError
from providers.kubernetes.client import Kube
from providers.longhorn import record
from tests.engine.sandbox import Sandbox
from tests.engine.test_killed import no_provider_survives, nothing_done_twice

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

OBJECTS = 220  # that a cold `up` of everything creates in the cluster, at least
EIGHTHS = 7  # a point in each; the eighth point is Helm's
SEED = 7
PHASE_S = 600.0
HELM = "Helm at work"
RELEASE = "longhorn-release creating"
CREATED = re.compile(r"^ \+  kubernetes:(\S+ \S+) created", re.MULTILINE)
OURS = ("metallb-system", "cert-manager", "traefik", "dns", "monitoring", "headlamp", "etcd-backup", "torrent", "web")
LISTS = {
    "Service": "/api/v1/services",
    "ConfigMap": "/api/v1/configmaps",
    "Deployment": "/apis/apps/v1/deployments",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "Ingress": "/apis/networking.k8s.io/v1/ingresses",
}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Sandbox]:
    """A lab with everything on; nothing is running yet."""
    lab = Sandbox(tmp_path / "lab", platform=True).prepare()
    yield lab
    lab.end()


def points() -> list[int]:
    """How many objects are there when a run is killed: somewhere in each of the first eighths."""
    chance, size = random.Random(SEED), OBJECTS // (EIGHTHS + 1)
    return [chance.randrange(first, first + size) for first in range(1, EIGHTHS * size, size)]


def created(lab: Sandbox) -> set[str]:
    """The Kubernetes objects that the engine said it had made, in all runs."""
    return set(CREATED.findall(lab.said()))


def kubeconfig(lab: Sandbox) -> str:
    """The admin's, from the state; the file is written when an `up` has ended."""
    deployment = json.loads(lab.pulumi("stack", "export", "--show-secrets"))["deployment"]
    outputs = next(item for item in deployment["resources"] if item["urn"].endswith("::cluster"))["outputs"]
    return str(json.loads(outputs["kubeconfig"]["plaintext"]))


def helm_is_at_work(access: str) -> bool:
    """Whether a release of Longhorn is being installed."""
    try:
        with Kube(access, timeout_s=2) as kube:
            return bool(record.stuck(kube, "longhorn-system", "longhorn"))
    except HomelabError:
        return False


def killed(lab: Sandbox, moment: Callable[[], str]) -> str:
    """Run `up` and kill it at a moment; gives what the moment is called, or nothing when it ended before."""
    process = lab.start("up", "--yes")
    end = time.monotonic() + PHASE_S
    while process.poll() is None:
        if name := moment():
            lab.kill(process)
            no_provider_survives(lab)
            return name
        if time.monotonic() > end:
            lab.kill(process)
            pytest.fail(f"neither a moment to kill nor an end within {PHASE_S} s\n{lab.said()[-4000:]}")
        time.sleep(0.05)
    assert process.returncode == 0, lab.said()[-6000:]
    return ""


def found(lab: Sandbox) -> Counter[tuple[str, str, str]]:
    """Kind, namespace and name of what is in the parts' namespaces, but for what controllers make."""
    with Kube((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")) as kube:
        lists = {kind: (kube.look(path) or {})["items"] for kind, path in LISTS.items()}
    return Counter(
        (kind, item["metadata"]["namespace"], item["metadata"]["name"])
        for kind, items in lists.items()
        for item in items
        if item["metadata"]["namespace"] in OURS and not item["metadata"].get("ownerReferences")
    )


def known(lab: Sandbox) -> Counter[tuple[str, str, str]]:
    """The same, as the state has it."""
    objects = [item["inputs"] for item in lab.state() if item["type"].startswith("kubernetes:") and "inputs" in item]
    return Counter(
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for item in objects
        if item.get("kind") in LISTS and item["metadata"].get("namespace") in OURS
    )


def alike(objects: Counter[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Without what every namespace has by itself."""
    return {item for item in objects if item[2] != "kube-root-ca.crt"}


def moment(lab: Sandbox, point: int | None, access: str) -> Callable[[], str]:
    """What says when to kill: when `point` objects are there, and one more than now; or Helm, where `access` is given.

    It gives the moment's name, or nothing as long as it has not come.
    """
    target = None if point is None else max(point, len(created(lab)) + 1)

    def now() -> str:
        count = len(created(lab))
        if target is not None and count >= target:
            return str(count)
        begun = access and RELEASE in lab.said()
        return HELM if begun and helm_is_at_work(access) else ""

    return now


def test_killed_at_eight_points_of_the_platform(house: Sandbox) -> None:
    wanted, reached, access = points(), [], ""
    while name := killed(house, moment(house, next(iter(wanted), None), "" if HELM in reached else access)):
        reached.append(name)
        access = access or kubeconfig(house)
        if name == HELM:
            assert helm_is_at_work(access)
        else:
            wanted.pop(0)
    print(f"killed at {', '.join(reached)} of {len(created(house))} objects")
    assert len(reached) == EIGHTHS + 1
    assert "of an earlier run was removed" in house.said()
    assert len(created(house)) >= OBJECTS
    assert all(node["ready"] is True for node in house.status()["nodes"])
    house.preview_unchanged().ok()
    nothing_done_twice(house)
    assert set(known(house).values()) == {1}
    assert alike(found(house)) == alike(known(house))
    assert not helm_is_at_work(access)


def keep(lab: Sandbox, *parts: str) -> None:
    """Leave a lab some of its platform."""
    settings = yaml.safe_load((lab.folder / lab.settings).read_text(encoding="utf-8"))
    platform = settings["config"]["homelab:platform"]
    settings["config"]["homelab:platform"] = {key: platform[key] for key in ("charts", "pools", *parts)}
    lab.write(lab.settings, yaml.safe_dump(settings))


def chart_values(lab: Sandbox, part: str, values: dict[str, Any]) -> None:
    """Give a part values of the owner's."""
    settings = yaml.safe_load((lab.folder / lab.settings).read_text(encoding="utf-8"))
    settings["config"]["homelab:platform"][part] = {"values": values}
    lab.write(lab.settings, yaml.safe_dump(settings))


def test_what_the_state_has_forgotten_is_taken_over_and_still_ours_to_change(house: Sandbox) -> None:
    """What is left by a run that was killed after the object was made, and before that was written down: of all.

    Each object's fields belong to a manager of a random name then, which nobody knows any more.
    """
    keep(house, "metallb", "cert_manager", "traefik", "longhorn")
    house.run("up", "--yes", limit_s=PHASE_S).ok()
    shutil.rmtree(house.folder / ".homelab" / "state")
    house.run("up", "--yes", limit_s=PHASE_S).ok()
    house.preview_unchanged().ok()
    chart_values(house, "traefik", {"deployment": {"replicas": 2}})
    chart_values(house, "longhorn", {"longhornUI": {"replicas": 2}})
    house.run("up", "--yes", limit_s=PHASE_S).ok()
    house.preview_unchanged().ok()
    with Kube((house.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")) as kube:
        (traefik,) = (kube.look("/apis/apps/v1/namespaces/traefik/deployments") or {})["items"]
    assert traefik["spec"]["replicas"] == 2


def test_a_release_that_was_installed_and_never_written_down_is_taken_over(house: Sandbox) -> None:
    """A run that was killed between Helm's end and the state's: Helm's record says "deployed", the state knows none."""
    keep(house, "metallb", "cert_manager", "traefik", "longhorn")
    house.run("up", "--yes", limit_s=PHASE_S).ok()
    release = next(item["urn"] for item in house.state() if item["urn"].endswith("::longhorn-release"))
    house.pulumi("state", "delete", release, "--target-dependents", "--yes")
    house.run("up", "--yes", limit_s=PHASE_S).ok()
    house.preview_unchanged().ok()
