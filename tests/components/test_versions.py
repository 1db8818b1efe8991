"""The table of versions, as Renovate reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from components.versions import CHARTS, IMAGES, NETBOOT

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "components" / "versions.py").read_text()
MANAGERS = json.loads((ROOT / "renovate.json").read_text())["customManagers"]


def found(manager: int) -> list[dict[str, str]]:
    """What one of Renovate's expressions finds; JavaScript names its groups in another way than Python."""
    (expression,) = MANAGERS[manager]["matchStrings"]
    return [match.groupdict() for match in re.finditer(expression.replace("(?<", "(?P<"), TABLE)]


def test_renovate_finds_every_chart_with_its_own_repository():
    charts = {}
    for match in found(0):
        name, oci = match["depName"].rpartition("/")[2], f"oci://{match['depName'].rpartition('/')[0]}"
        charts[name] = ((match["registryUrl"] or oci).rstrip("/"), match["currentValue"])
        assert match["datasource"] == ("helm" if match["registryUrl"] else "docker")
    assert charts == {name: (source.repo, source.version) for name, source in CHARTS.items()}


def test_renovate_finds_every_image():
    assert sorted(match["currentValue"] for match in found(1)) == sorted(
        image.partition("@")[0].rpartition(":")[2] for image in (IMAGES | NETBOOT).values()
    )
    for match in found(1):
        assert any(
            image.removeprefix("docker.io/").removeprefix("library/").startswith(f"{match['depName']}:")
            for image in (IMAGES | NETBOOT).values()
        )


@pytest.mark.parametrize("manager", MANAGERS, ids=lambda manager: manager["description"])
def test_renovate_looks_into_the_table(manager):
    (pattern,) = manager["managerFilePatterns"]
    assert re.search(pattern.strip("/"), "components/versions.py")


@pytest.mark.parametrize("image", IMAGES.values())
def test_every_image_has_a_registry_and_a_tag_that_stays(image):
    assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+/[a-z0-9./-]+:v?[0-9][\w.-]*(@sha256:[0-9a-f]{64})?", image)
