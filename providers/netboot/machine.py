"""A pool's machine: started, waited for, rolled to another image, and taken out."""

from __future__ import annotations

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError
from providers.kubernetes.client import Kube
from providers.netboot import power, rolling

JOIN_S = 1200.0  # a BMC's self-test, the image over the network, an installation
DRAIN_S = 300.0
API_S = 120.0


def start(props: Props, report: Reporter) -> str:
    """Have a machine boot into its pool, unless its cluster has it already.

    Returns:
        The id of the boot in which it was seen, or "" where nobody waits for it.

    Raises:
        DeadlineError: it was started and has not joined within its time.
    """
    with Kube(props["kubeconfig"]) as kube:
        seen = kube.node(props["node"])
        if seen is not None and seen.ready:
            report.info("runs already; adopted as it is")
            return seen.boot_id
        with power.of(props["power"], props["mac"]) as switch:
            switch.start(_voice(props, report))
            if not (props["joins"] and switch.restarts):
                report.info("is not waited for: it joins when it boots")
                return ""
        return _joined(kube, props, "", report)


def roll(props: Props, before: str, report: Reporter) -> str:
    """Have a machine boot its pool's present image, in its turn: drained, restarted, Ready again.

    Args:
        props: of the machine.
        before: the boot in which it was seen last.
        report: told what is done.

    Returns:
        The id of its boot.

    Raises:
        RefusedError: another one failed before; this one was not touched.
        DeadlineError: it did not come back in time; it stays cordoned.
    """
    with rolling.rollout(props["cluster"]).joined(props["node"]) as place, Kube(props["kubeconfig"]) as kube:
        turn = rolling.step(int(props["rank"]), props["node"])
        seen = kube.node(props["node"])
        with power.of(props["power"], props["mac"]) as switch:
            if not switch.restarts:
                place.needs([])
                report.warn(
                    f"{props['node']}: can't be restarted from here; it takes {props['image']} at its next start"
                )
                return before
            place.needs([turn])
            with place.turn(turn, waiting=report.progress):
                if seen is not None:
                    _drained(kube, props, report)
                switch.restart(_voice(props, report))
                boot = _joined(kube, props, seen.boot_id if seen else "", report) if props["joins"] else ""
                kube.cordon(props["node"], Deadline(pace.limit(API_S)), unschedulable=False)
                return boot


def leave(props: Props, report: Reporter) -> None:
    """Take a machine out: drained, its Node deleted, switched off. A cluster that is away does not keep it."""
    try:
        with Kube(props["kubeconfig"]) as kube:
            _drained(kube, props, report)
            kube.delete_node(props["node"], Deadline(pace.limit(API_S)))
    except HomelabError as error:
        report.warn(f"{props['node']}: its cluster was not told that it leaves: {error}")
    with power.of(props["power"], props["mac"]) as switch:
        switch.stop(_voice(props, report))


def _voice(props: Props, report: Reporter) -> power.Say:
    return lambda text: report.info(f"{props['node']}: {text}")


def _drained(kube: Kube, props: Props, report: Reporter) -> None:
    done = kube.drain(props["node"], Deadline(pace.limit(DRAIN_S)), report.progress)
    if not done.complete:
        left = ", ".join(map(str, done.left))
        report.warn(f"{props['node']}: pods that did not leave go down with it: {left}")


def _joined(kube: Kube, props: Props, old_boot: str, report: Reporter) -> str:
    """Wait until the machine is Ready in a boot that is not the old one."""
    deadline = Deadline(pace.limit(JOIN_S))

    def in_a_new_boot() -> str | None:
        view = kube.wait_ready(props["node"], deadline, report.progress)
        return view.boot_id if view.boot_id != old_boot else None

    try:
        return deadline.poll(in_a_new_boot, f"{props['node']}: Ready", pace.interval(2))
    except DeadlineError as error:
        raise DeadlineError(
            f"{error}; {props['node']} ({props['mac']}) was started from the network: look at its console, and in the "
            f"boot service's log for its MAC address, then run `homelab up` again"
        ) from None
