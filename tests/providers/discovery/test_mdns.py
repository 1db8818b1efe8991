"""Boards that announce themselves, as the twin's own responder does it: neither side knows the other's code."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from providers.discovery import mdns
from providers.errors import UserError
from twin.bmc import dns
from twin.bmc.mdns import GROUP, PORT, Responder

ASK_IN = ["127.0.0.1"]


def board(address: str, port: int = 443, version: tuple[int, int] = (2, 1)) -> Any:
    spec = SimpleNamespace(address=ipaddress.IPv4Address(address), port=port, version=version)
    return SimpleNamespace(spec=spec)


@contextmanager
def announcing(*boards: Any) -> Iterator[Responder]:
    """A responder on a loop of its own, its names found."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    responder = Responder(boards)
    run(responder.start())
    run(_named(responder))
    try:
        yield responder
    finally:
        run(responder.close())
        run(asyncio.sleep(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _named(responder: Responder) -> None:
    if responder._names is not None:
        await responder._names


@pytest.fixture
def net() -> str:
    return f"127.115.{random.SystemRandom().randrange(1, 250)}"


def mine(net: str, wait_s: float = mdns.WAIT_S) -> list[mdns.Announced]:
    """What was found, without the boards of other twins on this machine."""
    return [found for found in mdns.announced(ASK_IN, wait_s) if found.address.startswith(f"{net}.")]


def test_a_board_is_found_by_its_name(net: str) -> None:
    with announcing(board(f"{net}.60")):
        [found] = mine(net)
    assert found.name.startswith("turingpi")
    assert found.url == f"{net}.60"


def test_several_boards_have_names_of_their_own(net: str) -> None:
    with announcing(board(f"{net}.60"), board(f"{net}.61"), board(f"{net}.62")) as responder:
        names = {host.name for host in responder.hosts}
        found = mine(net)
    assert len(names) == 3
    assert [one.address for one in found] == [f"{net}.60", f"{net}.61", f"{net}.62"]
    assert {f"{one.name}.local" for one in found} == names


def test_another_port_than_443_is_told(net: str) -> None:
    with announcing(board(f"{net}.60", port=8443)):
        assert [one.url for one in mine(net)] == [f"{net}.60:8443"]


def test_firmware_1_announces_nothing(net: str) -> None:
    with announcing(board(f"{net}.60", version=(1, 1))):
        assert mine(net, 0.5) == []


def test_a_name_that_somebody_has_is_left_to_him(net: str) -> None:
    with announcing(board(f"{net}.60")) as first, announcing(board(f"{net}.61")) as second:
        assert first.hosts[0].name != second.hosts[0].name


def test_nobody_answers_for_a_board_that_is_gone(net: str) -> None:
    with announcing(board(f"{net}.60")):
        pass
    assert mine(net, 0.5) == []


def test_without_an_interface_nobody_is_asked() -> None:
    assert mdns.announced([]) == []


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(UserError, match=r"mDNS on 192\.0\.2\.77: .*--board"):
        mdns.announced(["192.0.2.77"], 0.2)


def test_loopback_is_no_lan() -> None:
    assert not [address for address in mdns.own_addresses() if address.startswith("127.")]


class Deaf(Responder):
    """A responder that keeps what it would send."""

    def __init__(self, *boards: Any) -> None:
        super().__init__(boards)
        self.hosts[0].number = 1
        self.sent: list[bytes] = []

    def _send(self, host: Any, message: bytes, to: tuple[str, int] = (GROUP, PORT)) -> None:
        self.sent.append(message)


def test_a_question_from_outside_loopback_is_not_answered(net: str) -> None:
    responder = Deaf(board(f"{net}.60"))
    question = dns.query(dns.Question("turingpi.local", dns.A))
    responder.datagram_received(question, ("192.168.1.9", PORT))
    assert responder.sent == []
    responder.datagram_received(question, ("127.0.0.1", PORT))
    assert len(responder.sent) == 1


def test_who_asks_from_another_port_is_answered_himself(net: str) -> None:
    with announcing(board(f"{net}.60")) as responder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        asker.bind(("127.0.0.1", 0))
        asker.settimeout(5)
        head = bytes.fromhex("077700000001000000000000")
        name = responder.hosts[0].name
        asker.sendto(head + dns.name(name) + bytes.fromhex("00010001"), (GROUP, PORT))
        answer = dns.parse(asker.recv(512))
    assert answer.id == 0x777
    assert [record.data for record in answer.answers] == [socket.inet_aton(f"{net}.60")]


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 11, b"\0\0\0\0\0\1" + b"\0" * 6 + b"\xc0\x0c", b"\0\0\0\0\0\2" + b"\0" * 20]
)
def test_rubbish_is_not_answered(data: bytes, net: str) -> None:
    responder = Deaf(board(f"{net}.60"))
    responder.datagram_received(data, ("127.0.0.1", PORT))
    assert responder.sent == []


def test_of_two_with_one_name_the_lower_address_takes_another(net: str) -> None:
    with announcing(board(f"{net}.60")) as low, announcing(board(f"{net}.61")) as high:
        ours, theirs = low.hosts[0], high.hosts[0]
        ours.number = theirs.number
        high._send(theirs, dns.response(list(theirs.records)))
        end = time.monotonic() + 5
        while ours.name in ("", theirs.name) and time.monotonic() < end:
            time.sleep(0.05)
        assert ours.name not in ("", theirs.name)
        assert theirs.number
