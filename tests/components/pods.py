"""What a pod lacks, and what docs/pods.md says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from components.workload import ROOT_REASON

TABLE = Path(__file__).parents[2] / "docs" / "pods.md"
Object = Mapping[str, Any]
Fault = tuple[str, str, str]  # pod, container, what it lacks


@cache
def told() -> dict[Fault, str]:
    """What docs/pods.md explains -> why."""
    rows = [
        line.strip("|\n ").split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines()[3:] if "|" in line
    ]
    return {(pod, box, what): why for pod, box, differs, why in rows[2:] for what in differs.split(", ")}


def faults(pod: str, template: Object, default: Object | None = None) -> Iterator[Fault]:
    """What the containers of a pod lack.

    Args:
        pod: the name of what makes it.
        template: `metadata` and `spec`.
        default: requests that its namespace gives to containers that say nothing.
    """
    spec = template["spec"]
    explained = ROOT_REASON in (template.get("metadata", {}).get("annotations") or {})
    lasting = spec.get("restartPolicy", "Always") == "Always"
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            asked = {**(default or {}), **(container.get("resources") or {}).get("requests", {})}
            user = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
            if not asked.keys() >= {"cpu", "memory"}:
                yield pod, container["name"], "requests"
            if not user.get("runAsNonRoot") and not explained:
                yield pod, container["name"], "root"
            if kind == "containers" and lasting and not container.keys() & {"readinessProbe", "livenessProbe"}:
                yield pod, container["name"], "no probe"
