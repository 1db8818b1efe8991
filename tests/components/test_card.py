"""A card's settings as what its resource is told, and a lab without cards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.card import props
from providers.disk import wish
from providers.disk.resources import CardProvider
from providers.disk.wish import GIB, Network, Preparation
from settings import load

ROOT = Path(__file__).parents[2]


def told(name: str) -> dict[str, Any]:
    """What a card's resource is told, as it comes from the wire: JSON, with every number a float."""
    lab = load(ROOT / "tests/settings/valid/card-every-kind.yaml")
    return dict(json.loads(json.dumps(props(name, lab.cards[name])), parse_int=float))


def test_everything_that_the_settings_say_arrives() -> None:
    found = wish.read(told("pi1"))
    assert (found.disk, found.serial, found.min_bytes, found.max_bytes) == ("", "0x1234abcd", 30 * 10**9, 33 * 10**9)
    assert (found.kind, found.generation, found.image) == ("raspberry-pi-os", 1, "https://nas.home.arpa/raspios.img.xz")
    assert found.preparation == Preparation(
        hostname="berry",
        user="admin",
        keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@desk", "ssh-rsa AAAAB3NzaC1yc2E="),
        network=Network("end0", "192.168.1.40/24", "192.168.1.1", ("192.168.1.1", "9.9.9.9"), promiscuous=True),
        cmdline=("cgroup_memory=1", "cgroup_enable=memory", "swapaccount=1"),
        read_only_root=True,
        boot_bytes=GIB,
    )


def test_what_the_settings_leave_out_has_its_default() -> None:
    talos, alpine = wish.read(told("talos1")), wish.read(told("pi2"))
    assert (talos.preparation, talos.sha256, talos.generation) == (None, "", 0)
    assert alpine.preparation == Preparation(
        "pi2", "homelab", ("ssh-ed25519 AAAAkey",), cmdline=("cgroup_memory=1", "cgroup_enable=memory")
    )


def test_a_card_that_may_not_be_written_is_not_looked_for() -> None:
    done = CardProvider().create(told("talos1"))
    assert done.outs is not None
    assert (done.id, done.outs["written_at"]) == ("card-talos1", "")


@pytest.mark.parametrize(("key", "value", "changes"), [("generation", 3.0, True), ("image", "b.raw", False)])
def test_only_the_generation_has_a_card_written_again(key: str, value: object, changes: bool) -> None:
    old = told("talos2")
    assert CardProvider().diff("id", old, {**old, key: value}).changes is changes


def test_the_generation_only_grows() -> None:
    old = told("talos2")
    assert not CardProvider().problems(old, {**old, "generation": 3.0})
    assert not CardProvider().problems({}, old)
    [(key, reason)] = CardProvider().problems(old, {**old, "generation": 1.0})
    assert key == "generation"
    assert "cards.talos2.generation: 1 is less than the 2 writes it had" in reason


def imported(code: str) -> list[str]:
    names = "[n for n in sys.modules if n.startswith(('providers.disk', 'components.card'))]"
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys; {code}; print(json.dumps({names}))"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return list(json.loads(done.stdout))


def test_a_lab_without_cards_imports_nothing_of_them() -> None:
    program = (ROOT / "__main__.py").read_text(encoding="utf-8")
    before, _, after = program.partition("if lab.cards:\n")
    assert "import Card" not in before
    assert "    from components.card import Card\n" in after
    assert imported("import components.outputs, components.node, components.control_plane, settings") == []


def test_a_program_that_only_declares_cards_imports_no_client_of_disks() -> None:
    assert "providers.disk.card" not in imported("import components.card")
