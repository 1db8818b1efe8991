"""A silent node's power is cut and given back, with the login that the settings have, and no other slot's."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from providers.errors import UnreachableError
from providers.talos.resources import MachineProvider
from providers.turingpi.cycle import power_cycle
from tests.providers.turingpi.lab import PASSWORD, Lab

SLOT, OTHER = 2, 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.01")


def props(lab: Lab) -> dict[str, Any]:
    return {"node": "node2", "board": lab.url("new"), "slot": float(SLOT)}


def boards(lab: Lab) -> str:
    """As the engine brings them: text, and the address without its scheme."""
    return json.dumps({"new": {"address": lab.url("new").removeprefix("https://"), "password": PASSWORD}})


def test_one_slot_loses_its_power_and_gets_it_back(lab: Lab) -> None:
    with lab.bmc("new") as bmc:
        bmc.set_power({SLOT: True, OTHER: True})
    since = time.time()
    power_cycle(props(lab), boards(lab))
    with lab.bmc("new") as bmc:
        assert bmc.power()[SLOT]
        assert bmc.power()[OTHER]
    assert [event["node"] for event in lab.events("power_off", since)] == [f"new{SLOT}"]
    assert [event["node"] for event in lab.events("power_on", since)] == [f"new{SLOT}"]


def test_a_machine_has_the_boards_from_the_engine_and_none_of_it_in_state(lab: Lab) -> None:
    provider = MachineProvider()
    provider.configure(ConfigureRequest(Config({"homelab:boards": boards(lab)}, "homelab")))
    assert PASSWORD in str(provider.boards)
    assert PASSWORD not in json.dumps(provider.stored({**props(lab), "boards": provider.boards}))


def test_a_board_that_nothing_names_is_for_its_owner_to_switch(lab: Lab) -> None:
    with pytest.raises(UnreachableError, match="node2: its board is not known here, cut its power by hand"):
        power_cycle({"node": "node2", "slot": 2}, boards(lab))
