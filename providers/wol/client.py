"""The magic packet: six bytes of ones, then sixteen times the card's MAC address, by UDP to the LAN's broadcast.

Nobody answers it. Whether the machine woke shows only later, when it asks for its boot files or joins its cluster.
"""

from __future__ import annotations

import socket
import time

from providers.errors import UnreachableError, UserError

PORT = 9  # "discard": nobody listens, only cards do
TIMES = 3  # UDP may be lost
PAUSE_S = 0.2


def packet(mac: str) -> bytes:
    """The 102 bytes that wake the card with this MAC address.

    Raises:
        UserError: it is no MAC address.
    """
    digits = mac.replace(":", "").replace("-", "")
    try:
        address = bytes.fromhex(digits)
    except ValueError:
        address = b""
    if len(address) != 6:
        raise UserError(f"{mac!r}: not a MAC address; write six pairs of hex digits")
    return b"\xff" * 6 + address * 16


def wake(mac: str, broadcast: str, port: int = PORT, times: int = TIMES) -> None:
    """Send a card its packet, some times over.

    Args:
        mac: of the card.
        broadcast: address of the LAN, such as 192.168.1.255; or of a single host.
        port: UDP port.
        times: how often.

    Raises:
        UnreachableError: this machine has no way into that network.
    """
    content = packet(mac)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for left in reversed(range(times)):
                out.sendto(content, (broadcast, port))
                if left:
                    time.sleep(PAUSE_S)
    except OSError as error:
        raise UnreachableError(
            f"{mac}: no magic packet to {broadcast}: {error.strerror}; run this in the same LAN as the machine"
        ) from None
