"""Cards on the real engine: written once for each generation, and again after a run was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.disk import marker
from providers.disk.marker import WRITING, WRITTEN
from tests.engine.sandbox import ROOT
from tests.providers.disk.scene import MIB, card_file, piece, plain_image
from tools import paths

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
LIMIT_S = 240


class Lab:
    """A stack that has two cards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(Path(__file__).parent / "program", folder / "program")
        self.cards = {name: card_file(folder / f"{name}.img", 80 * MIB) for name in ("pi1", "pi2")}
        self.image = plain_image(folder / "metal.raw", 64 * MIB)
        self.generations = {"pi1": 1, "pi2": 1}
        self.environment = {
            **paths.environment("twin"),
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "cards",
            "PYTHONPATH": str(ROOT),
            "CARDS": str(folder / "Pulumi.cards.yaml"),
            "HOMELAB_CACHE": str(folder / "cache"),
        }
        self.write()
        self.run("stack", "init", "cards")

    def write(self, **more: Any) -> None:
        data = yaml.safe_load((ROOT / "tests/settings/valid/minimal.yaml").read_text(encoding="utf-8"))
        plain = {"min_gb": 0, "max_gb": 1, "image": str(self.image), "kind": "talos"}
        data["config"]["homelab:cards"] = {
            name: {**plain, "disk": str(file), "generation": self.generations[name], **more}
            for name, file in self.cards.items()
        }
        (self.folder / "Pulumi.cards.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / "run.log").open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                ["pulumi", *arguments, "--non-interactive"],
                cwd=self.folder / "program", env=self.environment, stdout=log, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip

    def run(self, *arguments: str, fails: bool = False) -> str:
        code = self.start(*arguments).wait(LIMIT_S)
        assert (code != 0) is fails, self.said()
        return self.said()

    def said(self) -> str:
        return (self.folder / "run.log").read_text(encoding="utf-8")

    def up(self) -> str:
        return self.run("up", "--yes")

    def note(self, name: str) -> tuple[int, str] | None:
        found = marker.read(piece(self.cards[name], marker.OFFSET, marker.BYTES))
        return (found.generation, found.state) if found else None

    def is_whole(self, name: str, image: Path | None = None) -> bool:
        rest = 64 * MIB - MIB
        return piece(self.cards[name], MIB, rest) == piece(image or self.image, MIB, rest)

    def times(self) -> list[int]:
        return [file.stat().st_mtime_ns for file in self.cards.values()]


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    listed = subprocess.run(["ps", "-e", "-o", "ppid=,pid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for above, child in pairs if above == parent]
    return found[1:]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("cards")
    yield Lab(folder)
    shutil.rmtree(folder)


def test_cards_are_written_once_then_only_by_generation(lab: Lab) -> None:
    said = lab.up()
    assert "Card (card-pi1-disk)" in said
    assert "ERASING" in said
    assert all(lab.is_whole(name) and lab.note(name) == (1, WRITTEN) for name in lab.cards)

    before = lab.times()
    lab.run("preview", "--expect-no-changes")
    assert "unchanged" in lab.up()
    assert lab.times() == before

    other = plain_image(lab.folder / "other.raw", 64 * MIB, seed=2)
    first, lab.image = lab.image, other
    lab.write()
    said = lab.run("preview", "--expect-no-changes")
    assert "applies when cards.pi1.generation is raised" in said

    lab.generations["pi1"] = 2
    lab.write()
    assert "ERASED and written" in lab.run("preview")
    assert lab.times() == before
    lab.up()
    assert lab.note("pi1") == (2, WRITTEN)
    assert lab.is_whole("pi1")
    assert lab.note("pi2") == (1, WRITTEN)
    assert lab.is_whole("pi2", first)


@pytest.mark.slow
def test_a_card_out_of_its_reader_is_not_asked_for(lab: Lab) -> None:
    away = lab.cards["pi2"].rename(lab.folder / "away")
    assert "unchanged" in lab.up()
    away.rename(lab.cards["pi2"])


@pytest.mark.slow
def test_a_generation_never_goes_down(lab: Lab) -> None:
    lab.generations["pi1"] -= 1
    lab.write()
    assert "it only grows" in lab.run("preview", fails=True)
    lab.generations["pi1"] += 1
    lab.write()


def test_a_killed_write_is_repeated(lab: Lab) -> None:
    lab.generations = dict.fromkeys(lab.cards, 3)
    lab.write()
    run = lab.start("up", "--yes")
    end = time.monotonic() + LIMIT_S
    while lab.note("pi1") != (3, WRITING):
        assert time.monotonic() < end, lab.said()
        assert run.poll() is None, lab.said()
        time.sleep(0.002)
    for pid in (run.pid, *descendants(run.pid)):  # all at once: the provider would end half a second after its engine
        os.kill(pid, signal.SIGKILL)
    run.wait()
    assert lab.note("pi1") == (3, WRITING)
    lab.run("cancel", "--yes")
    lab.up()
    assert all(lab.note(name) == (3, WRITTEN) and lab.is_whole(name) for name in lab.cards)
    lab.run("preview", "--expect-no-changes")


@pytest.mark.slow
def test_a_lost_state_writes_nothing_again(lab: Lab) -> None:
    before = lab.times()
    lab.run("stack", "rm", "--yes", "--force")
    lab.run("stack", "init", "cards")
    assert "adopted: the card holds this write already" in lab.up()
    assert lab.times() == before


@pytest.mark.slow
def test_another_nodes_card_is_refused_and_the_cards_stay_when_the_stack_is_destroyed(lab: Lab) -> None:
    lab.cards["pi3"] = lab.cards.pop("pi2")
    lab.generations["pi3"] = 1
    lab.write()
    before = lab.times()
    assert "is already written as pi2" in lab.run("up", "--yes", fails=True)
    lab.run("destroy", "--yes")
    assert lab.times() == before
    assert not [
        r for r in json.loads(lab.run("stack", "export"))["deployment"].get("resources", []) if "Card" in r["type"]
    ]


@pytest.mark.slow
def test_state_holds_a_reference_and_little_more(lab: Lab) -> None:
    lab.cards["pi2"] = lab.cards.pop("pi3")
    lab.write()
    lab.up()
    found = json.loads(lab.run("stack", "export"))["deployment"]["resources"]
    [card] = [one for one in found if one["urn"].endswith("::card-pi1-disk")]
    assert card["type"] == "pulumi-python:dynamic/disk:Card"
    assert len(card["inputs"]["__provider"]) < 120
    assert set(card["outputs"]) <= {"__provider", "raw_sha256", "written_at", "settings"} | set(card["inputs"])
