"""Taking a module's power and giving it back: the last word when its system gives none (facts A7)."""

from __future__ import annotations

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import UnreachableError
from providers.turingpi import login
from providers.turingpi.client import Bmc, Endpoint

LOCK_S = 600.0
OFF_S = 5.0  # the module's capacitors keep it up for a moment


def power_cycle(props: Props, boards: object = None) -> None:
    """Cut the power of a node's slot and give it back.

    Args:
        props: `board` (URL), `slot` and `node`.
        boards: the settings' boards with their logins, as `configure` brought them.

    Raises:
        UnreachableError: nothing says which board it sits on.
        RefusedError: the board flashes a module, which a cut would not hurt but its answers would wait for.
        HomelabError: the board does not answer, or refuses.
    """
    if not props.get("board"):
        raise UnreachableError(f"{props['node']}: its board is not known here, cut its power by hand")
    slot = int(props["slot"])

    def cut(bmc: Bmc) -> None:
        bmc.set_power({slot: False})
        Deadline(pace.limit(OFF_S)).sleep(pace.interval(OFF_S))
        bmc.set_power({slot: True})

    name, what = f"board {props['board']}", f"cutting the power of {props['node']}"
    with locks.held(name, what, Deadline(pace.limit(LOCK_S)), Reporter().progress):
        login.reach(Endpoint(props["board"], "root", "", None), boards, cut)
