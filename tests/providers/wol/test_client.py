"""The magic packet, as a socket receives it."""

import socket

import pytest

from providers.errors import UnreachableError, UserError
from providers.wol import client


def test_a_card_gets_its_packet_three_times(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "PAUSE_S", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("127.255.255.255", 0))  # the loopback network's broadcast address
        card.settimeout(5)
        client.wake("02:00:00:aa:bb:cc", "127.255.255.255", card.getsockname()[1])
        got = [card.recv(200) for _ in range(3)]
    assert got == [bytes.fromhex("ffffffffffff" + "020000aabbcc" * 16)] * 3


@pytest.mark.parametrize("mac", ["", "02:00:00:aa:bb", "02:00:00:aa:bb:cg", "02:00:00:aa:bb:cc:dd"])
def test_what_is_no_mac_address_is_refused(mac: str):
    with pytest.raises(UserError, match="not a MAC address"):
        client.packet(mac)


def test_no_way_into_the_network_is_told():
    with pytest.raises(UnreachableError, match=r"no magic packet to .*; run this in the same LAN"):
        client.wake("02:00:00:aa:bb:cc", "256.1.1.1")
