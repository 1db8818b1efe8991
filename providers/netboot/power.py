"""Who switches a pool's machine: its BMC, its own network card, or a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from providers.redfish.client import HTTP, PXE, Endpoint, Redfish
from providers.wol.client import wake

Say = Callable[[str], None]


class Power(Protocol):
    """What can be done to a machine's power."""

    restarts: bool
    """Whether it can be restarted from here."""

    def start(self, say: Say) -> None:
        """Have it boot from the network if it is off; one that is on stays as it is."""

    def restart(self, say: Say) -> None:
        """Have it boot from the network, now."""

    def stop(self, say: Say) -> None:
        """Switch it off."""


class ByBmc:
    """A machine with a BMC.

    Args:
        bmc: a client of it.
        over_http: whether its firmware boots over HTTP, not by PXE.
        mac: of the card that it boots from, which one of its cards must have.
    """

    restarts = True

    def __init__(self, bmc: Redfish, mac: str, *, over_http: bool = False) -> None:
        self._bmc = bmc
        self._mac = mac
        self._target = HTTP if over_http else PXE

    def start(self, say: Say) -> None:
        """Boot once from the network, if it is off."""
        if self._bmc.system().power == "On":
            say("is on already; if it does not join, switch it off, and `homelab up` starts it from the network")
            return
        self._from_network(say)
        say("switching on")
        self._bmc.power_on()

    def restart(self, say: Say) -> None:
        """Boot once from the network, now."""
        self._from_network(say)
        say("restarting")
        self._bmc.restart()

    def stop(self, say: Say) -> None:
        """Ask its system to shut down, and cut its power when it does not."""
        say("switching off")
        self._bmc.power_off()

    def _from_network(self, say: Say) -> None:
        macs = self._bmc.macs()
        if macs and self._mac not in macs:
            say(f"its BMC {self._bmc.name} knows the MAC addresses {', '.join(macs)}, and {self._mac} is none of them")
        system = self._bmc.boot_once(self._target)
        if system.enabled != "Once":
            say(f"its BMC boots it from the network {system.enabled.lower()}, not once")


class ByCard:
    """A machine that its network card wakes. It can't be switched off, nor restarted."""

    restarts = False

    def __init__(self, mac: str, broadcast: str) -> None:
        self._mac = mac
        self._broadcast = broadcast

    def start(self, say: Say) -> None:
        """Send the magic packet; a machine that is on does not mind."""
        say("waking it")
        wake(self._mac, self._broadcast)

    def restart(self, say: Say) -> None:
        """Nothing can be done."""
        say("can't be restarted from here")

    def stop(self, say: Say) -> None:
        """Nothing can be done."""
        say("can't be switched off from here: switch it off by hand")


class ByHand(ByCard):
    """A machine that a person switches."""

    def __init__(self) -> None:
        super().__init__("", "")

    def start(self, say: Say) -> None:
        """Say so."""
        say("switch it on: nothing here can")


@contextmanager
def of(power: Mapping[str, Any], mac: str) -> Iterator[Power]:
    """The power of a machine.

    Args:
        power: `kind` (redfish, wake, or hand) and what that needs.
        mac: of the card that it boots from.
    """
    kind = power.get("kind")
    if kind == "redfish":
        endpoint = Endpoint(
            power["url"],
            power["username"],
            power["password"],
            power.get("fingerprint") or None,
            power.get("system") or "",
        )
        with Redfish.connect(endpoint) as bmc:
            yield ByBmc(bmc, mac, over_http=power.get("boot") == "http")
    elif kind == "wake":
        yield ByCard(mac, power["broadcast"])
    else:
        yield ByHand()
