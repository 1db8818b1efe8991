"""`homelab cards`: this machine's disks, and the cards of the settings, for people and machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli import cards, stacks
from cli.main import app
from cli.stacks import Stack
from providers.disk import inventory
from providers.disk.inventory import Disk, Kind
from providers.disk.marker import OFFSET, WRITTEN, Marker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lab of four nodes with two cards: an image file, and a reader that is not there."""
    data = yaml.safe_load((ROOT / "Pulumi.twin.yaml").read_text(encoding="utf-8"))
    card = {"max_gb": 64, "min_gb": 0, "image": "metal-arm64.raw.xz", "kind": "talos", "generation": 1}
    file = tmp_path / "card.img"
    data["config"]["homelab:cards"] = {"pi1": {"disk": str(file), **card}, "pi2": {"serial": "none such", **card}}
    (tmp_path / "Pulumi.homelab.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    file.write_bytes(bytes(OFFSET) + Marker("pi1", 1, WRITTEN, "00").block())
    monkeypatch.setattr(stacks, "find", lambda name: Stack(name, tmp_path))
    return tmp_path


def run(*options: str) -> str:
    done = CliRunner().invoke(app, ["cards", "--stack", "homelab", *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_cards_of_the_settings_are_found_or_missed(lab: Path) -> None:
    said = run()
    assert f"cards.pi1: generation 1, {lab}/card.img" in said
    assert "cards.pi2: generation 1, not here; cards.pi2: no disk has the serial none such" in said


def test_machines_get_json(lab: Path) -> None:
    found = json.loads(run("--json"))
    assert {card["card"]: card["disk"] for card in found["cards"]} == {"pi1": f"{lab}/card.img", "pi2": ""}
    assert all(
        {"path", "serial", "size_bytes", "removable", "mounts", "links"} <= set(one["disk"]) for one in found["disks"]
    )


def test_a_disk_says_whose_card_it_holds_and_why_it_is_none(lab: Path) -> None:
    found: Any = inventory.image_file(lab / "card.img")
    held = cards.reader(found, (cards.Wanted("pi1", 1, str(lab / "card.img"), ()),))
    assert (held.written_as, held.cards, held.fits) == ("pi1, generation 1, written", ("pi1",), True)
    system = Disk("/dev/vda", Kind.DISK, "254:0", 10**10, transport="virtio", runs_system=True)
    seen = cards.reader(system, ())
    assert not seen.fits
    assert "this machine runs from it" in seen.reasons


def test_nothing_is_written(lab: Path) -> None:
    before = (lab / "card.img").read_bytes()
    run()
    assert (lab / "card.img").read_bytes() == before
