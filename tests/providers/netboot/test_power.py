"""Who switches a machine, with a BMC that others wrote: from the network when it is off, untouched when it is on."""

from collections.abc import Iterator

import pytest

from providers.netboot import power
from tests.providers.redfish.emulator import MACS, Emulator, emulator


@pytest.fixture(scope="module")
def bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with emulator(tmp_path_factory.mktemp("bmc"), tls=True) as running:
        yield running


def _given(bmc: Emulator) -> dict[str, str]:
    return {
        "kind": "redfish", "url": bmc.url, "username": "admin", "password": "right", "fingerprint": bmc.fingerprint,
        "system": "", "boot": "pxe",
    }  # fmt: skip


def test_a_machine_that_is_off_starts_from_the_network_and_one_that_is_on_is_let_be(bmc: Emulator):
    said: list[str] = []
    with power.of(_given(bmc), MACS[0]) as switch:
        assert switch.restarts
        switch.start(said.append)
    with bmc.client() as client:
        assert (client.system().power, client.system().target) == ("On", "Pxe")
    assert "switching on" in said
    assert not any("MAC" in text for text in said)
    with power.of(_given(bmc), "02:00:00:00:00:99") as switch:
        switch.start(said.append)
    assert said[-1].startswith("is on already; if it does not join, switch it off")


def test_a_restart_says_when_the_bmc_knows_another_card(bmc: Emulator):
    said: list[str] = []
    with power.of(_given(bmc), "02:00:00:00:00:99") as switch:
        switch.restart(said.append)
    assert any("and 02:00:00:00:00:99 is none of them" in text for text in said)
    with bmc.client() as client:
        assert client.system().power == "On"


@pytest.mark.parametrize(("kind", "words"), [("wake", "waking it"), ("hand", "switch it on: nothing here can")])
def test_without_a_bmc_nothing_is_restarted_or_switched_off(kind: str, words: str):
    said: list[str] = []
    with power.of({"kind": kind, "broadcast": "127.255.255.255"}, "02:00:00:00:01:01") as switch:
        assert not switch.restarts
        switch.start(said.append)
        switch.stop(said.append)
    assert said == [words, "can't be switched off from here: switch it off by hand"]
