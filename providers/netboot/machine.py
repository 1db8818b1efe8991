"""A pool's machine: started, waited for, rolled to another image, taken to another cluster, and taken out."""

from __future__ import annotations

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError
from providers.kubernetes.client import Kube, NodeView, Seen
from providers.netboot import power, rolling

JOIN_S = 1200.0  # a BMC's self-test, the image over the network, an installation
DRAIN_S = 300.0
API_S = 120.0
# How a kubelet begins its reason when only the pods' network is missing; container runtimes all say it so.
NO_NETWORK = "NetworkPluginNotReady"


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
                return _restarted(kube, switch, props, seen, report)


def move(olds: Props, news: Props, report: Reporter) -> str:
    """Have a machine leave its cluster and boot into another one, in its turn.

    One that nobody can restart from here leaves as well: drained, it can be restarted by hand without harm.

    Args:
        olds: of the machine in the cluster that it leaves.
        news: of the machine in the cluster that it joins.
        report: told what is done.

    Returns:
        The id of the boot in which it was seen, or "" where nobody waits for it.

    Raises:
        UnreachableError: the cluster that it joins does not answer; nothing was touched.
        RefusedError: another one failed before; this one was not touched.
        DeadlineError: it was started and has not joined within its time.
    """
    # The old cluster's roll-out: two machines at once are never taken from it, whatever is done to them.
    with rolling.rollout(olds["cluster"]).joined(news["node"]) as place:
        turn = rolling.step(int(news["rank"]), news["node"])
        place.needs([turn])
        with place.turn(turn, waiting=report.progress), Kube(news["kubeconfig"]) as kube:
            seen = kube.node(news["node"])
            _left(olds, report)
            if seen is not None and seen.ready:  # a run that was killed came so far
                return seen.boot_id
            with power.of(news["power"], news["mac"]) as switch:
                if switch.restarts:
                    return _restarted(kube, switch, news, seen, report)
            report.warn(
                f"{news['node']}: can't be restarted from here; it is in no cluster now, and joins {news['cluster']} "
                f"at its next start"
            )
            return ""


def _restarted(kube: Kube, switch: power.Power, props: Props, seen: NodeView | None, report: Reporter) -> str:
    """Restart a machine, wait for it where it joins, and let pods on it."""
    switch.restart(_voice(props, report))
    boot = _joined(kube, props, seen.boot_id if seen else "", report) if props["joins"] else ""
    kube.cordon(props["node"], Deadline(pace.limit(API_S)), unschedulable=False)
    return boot


def leave(props: Props, report: Reporter) -> None:
    """Take a machine out: drained, its Node deleted, switched off."""
    _left(props, report)
    with power.of(props["power"], props["mac"]) as switch:
        switch.stop(_voice(props, report))


def _left(props: Props, report: Reporter) -> None:
    """Drain a machine and delete its Node. A cluster that is away does not keep it."""
    try:
        with Kube(props["kubeconfig"]) as kube:
            _drained(kube, props, report)
            kube.delete_node(props["node"], Deadline(pace.limit(API_S)))
    except HomelabError as error:
        report.warn(f"{props['node']}: {props['cluster']} was not told that it leaves: {error}")


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

    def in_a_new_boot() -> NodeView | None:
        view = _ready(kube, props, deadline, report)
        return view if view.boot_id != old_boot else None

    try:
        view = deadline.poll(in_a_new_boot, f"{props['node']}: Ready", pace.interval(2))
    except DeadlineError as error:
        raise DeadlineError(
            f"{error}; {props['node']} ({props['mac']}) was started from the network: look at its console, and in the "
            f"boot service's log for its MAC address, then run `homelab up` again"
        ) from None
    if not view.ready:
        report.warn(f"{props['node']}: has joined {props['cluster']}, and is Ready when pods have a network there")
    return view.boot_id


def _ready(kube: Kube, props: Props, deadline: Deadline, report: Reporter) -> NodeView:
    """Wait until the machine is Ready; where its owner brings the pods' network, until nothing else is missing."""
    if props.get("network", True):
        return kube.wait_ready(props["node"], deadline, report.progress)
    seen = Seen(report.progress)

    def probe() -> NodeView | None:
        view = kube.node(props["node"])
        seen(f"{props['node']}: {'joined, not Ready (' + view.reason + ')' if view else 'has not joined yet'}")
        return view if view is not None and (view.ready or NO_NETWORK in view.reason) else None

    return kube.patiently(probe, f"{props['node']}: Ready", deadline, seen)
