"""Boards and modules, found on the twin's own BMCs of every firmware."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, cast

import pytest

from providers.discovery import boards, mdns, modules
from providers.discovery.boards import Board
from providers.errors import AuthError, UserError
from providers.talos.client import Mode, Talos
from providers.turingpi.client import Endpoint
from tests.providers.discovery.house import PASSWORD, PORT, House, house
from tests.providers.turingpi.lab import forget_sessions

# aiohttp's advice to whoever serves with it; the twin's process only logs it
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.ResponseKey")
FIRMWARES: dict[str, dict[str, Any]] = {
    "new": {"firmware": "v2.1.0", "modules": (1, 2, 4)},
    "mid": {"firmware": "v2.0.5", "modules": (1,)},
    "old": {"firmware": "v1.1.0", "modules": (3,)},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    forget_sessions()
    with house(tmp_path_factory.mktemp("house"), FIRMWARES, mdns=True) as made:
        yield made


def look(lab: House, board: str, password: str = PASSWORD) -> Board:
    address = lab.address(board)
    url = address if "://" in address else f"https://{address}"
    return boards.look(Endpoint(url, "root", password), address)


@pytest.mark.parametrize("board", FIRMWARES)
def test_a_board_is_known_without_a_password(lab: House, board: str) -> None:
    asked = lab.events("bad_login")
    assert boards.identify(lab.address(board)) == lab.address(board)
    assert lab.events("bad_login") == asked


def test_firmware_1_gets_its_scheme(lab: House) -> None:
    spec = lab.spec.boards["old"]
    assert boards.identify(f"{spec.address}:{spec.port}") == f"http://{spec.address}:{spec.port}"


def test_nobody_and_somebody_else_are_no_boards(lab: House) -> None:
    assert boards.identify(f"{lab.net}.99:{PORT}", 1) is None
    assert boards.identify(f"http://{lab.spec.factory.address}:{lab.spec.factory.port}", 1) is None


def test_what_answers_nonsense_is_no_board(lab: House) -> None:
    with socket.create_server((f"{lab.net}.98", 0)) as server:

        def babble() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.close()

        thread = threading.Thread(target=babble)
        thread.start()
        assert boards.identify(f"{lab.net}.98:{server.getsockname()[1]}", 1) is None
        thread.join()


def test_a_sweep_finds_all_of_a_subnet(lab: House) -> None:
    found = boards.sweep(IPv4Network(f"{lab.net}.56/29"), PORT)
    assert found == [lab.address("new"), lab.address("mid"), lab.address("old")]


def test_a_sweep_is_bounded() -> None:
    with pytest.raises(UserError, match=r"10\.0\.0\.0/16: 65536 addresses are too many"):
        boards.sweep(IPv4Network("10.0.0.0/16"))


def test_mdns_leads_to_the_boards(lab: House) -> None:
    found = [one for one in mdns.announced(["127.0.0.1"], 1.5) if one.address.startswith(f"{lab.net}.")]
    assert [boards.identify(one.url) for one in found] == [lab.address("new"), lab.address("mid")]


@pytest.mark.parametrize("board", FIRMWARES)
def test_all_slots_are_listed_with_their_power(lab: House, board: str) -> None:
    found = look(lab, board)
    assert set(found.slots) == {1, 2, 3, 4}
    assert found.version.lstrip("v") in ("", FIRMWARES[board]["firmware"].lstrip("v"))
    assert {slot.powered for slot in look(lab, "old").slots.values()} == {False}


def test_a_wrong_password_is_tried_once(lab: House) -> None:
    before = lab.events("bad_login")
    with pytest.raises(AuthError):
        look(lab, "mid", "wrong")
    assert lab.events("bad_login") == before + 1
    forget_sessions()


def test_a_module_that_waits_for_a_config_tells_its_address_and_card(lab: House) -> None:
    lab.flashed("new-2")
    found = look(lab, "new")
    slot = found.slots[2]
    assert (slot.powered, slot.occupied) == (True, True)
    assert slot.evidence.address == f"{lab.net}.12"
    assert slot.evidence.mac == "02:00:00:00:01:02"
    assert slot.evidence.state is Mode.MAINTENANCE
    assert slot.evidence.kind == "rk1"
    assert not found.slots[1].occupied


def test_looking_changes_nothing(lab: House) -> None:
    kinds = ("power_on", "power_off", "flash_started", "config_applied", "reset")
    before = [lab.events(kind) for kind in kinds]
    for board in FIRMWARES:
        look(lab, board)
    assert [lab.events(kind) for kind in kinds] == before


def test_the_last_printed_address_counts() -> None:
    console = (
        "[talos] this machine is reachable at:\r\n[talos] \t10.0.0.7\r\n[talos] upload configuration\r\n"
        "[    9.1] [talos] this machine is reachable at:\r\n[    9.1] [talos] \t10.0.0.8\r\n"
    )
    assert modules.printed_address(console) == "10.0.0.8"
    assert modules.printed_address("reachable at:\n[talos] \tfd00::7\n[talos] \t10.0.0.9\n") == "10.0.0.9"
    assert modules.printed_address("reachable at: nothing 10.0.0.8") == ""


class Cards:
    """What Talos tells of a node that holds a VIP."""

    def listed(self, namespace: str, kind: str) -> list[tuple[str, dict[str, str]]]:
        if kind.startswith("LinkStatuses"):
            return [("lo", {"hardwareAddr": ""}), ("end0", {"permanentAddr": "02:AA:00:00:00:01"})]
        places = {"127.0.0.1/8": "lo", "10.0.0.9/32": "end0", "fd00::1/64": "end0", "10.0.0.11/24": "end0"}
        return [(cidr, {"address": cidr, "linkName": link}) for cidr, link in places.items()]


@pytest.mark.parametrize("asked", ["10.0.0.9", "10.0.0.11"])
def test_a_vip_stands_for_the_nodes_own_address(asked: str) -> None:
    assert modules.card(cast("Talos", Cards()), asked) == modules.Card("end0", "02:aa:00:00:00:01", "10.0.0.11/24")


def test_the_arp_table_is_a_hint(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "10.0.0.7         0x1         0x2         02:AB:00:00:00:01     *        eth0\n"
        "10.0.0.8         0x1         0x0         00:00:00:00:00:00     *        eth0\n"
    )
    assert modules.neighbour("10.0.0.7", table) == "02:ab:00:00:00:01"
    assert modules.neighbour("10.0.0.8", table) == ""
    assert modules.neighbour("10.0.0.7", tmp_path / "none") == ""
