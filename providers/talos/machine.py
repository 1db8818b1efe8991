"""Bringing one machine to its config and keeping it there: look, then do the mildest thing that works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import DeadlineError, ForeignNodeError, HomelabError, UnreachableError
from providers.kubernetes.client import Kube
from providers.talos import leave, plan, rotate_live, unwiped, versions
from providers.talos.client import WIPE_LABELS, ApplyMode, Mode, Talos, TalosError, probe
from providers.talos.config import same
from providers.talos.pki import ClientCert
from providers.talos.rollout import Place
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import admin
from providers.talos.wish import bundle_of, rendered

ANSWER_S = 420.0  # from power on to an answering API
CONFIGURED_S = 600.0  # from an accepted config, through install and reboot, to the node's own certificates
REJOIN_S = 120.0
RESET_S = 300.0
API_PORT = 6443  # on the control planes themselves


def settle(props: Props, report: Reporter, olds: Props | None = None, cycle: Callable[[], None] = lambda: None) -> str:
    """Have the node run with its config, whatever it was doing before, and on its versions, if that was announced.

    Args:
        props: the resource's inputs.
        report: told what goes on.
        olds: what state holds of it; versions change only when this tells that the preview has said so.
        cycle: cuts the node's power and gives it back.

    Returns:
        How it still differs from what it is to run: it is for the next run to say so before anything reboots.

    Raises:
        ForeignNodeError: it belongs to another cluster.
        DeadlineError: it did not answer, or came back without its config.
        UpgradeError: it did not come to its version.
    """
    if olds is None or not versions.announced(olds, props):
        return _settle(props, report, None, cycle)
    with versions.of(props).joined(props["node"]) as place:
        return _settle(props, report, place, cycle)


def _settle(props: Props, report: Reporter, place: Place | None, cycle: Callable[[], None]) -> str:
    bundle = bundle_of(props)
    cert = admin(bundle.os)
    mode = _answering(props, cert, report)
    if mode is Mode.FOREIGN:
        raise ForeignNodeError(
            f"{props['node']} ({props['address']}): belongs to another cluster; nothing was changed on it"
        )
    if mode is Mode.OURS and (unwiped.noted(props["node"], cert) or _was_removed(props, cert, report)):
        report.warn("was taken out of the cluster while it was away; its old state is reset before it may join again")
        _reset(props, cert, report)
        mode = Mode.MAINTENANCE
    if mode is Mode.MAINTENANCE:
        if place is not None:
            place.needs([])
        unwiped.forget(props["node"], cert)
        _configure(props, rendered(props, bundle), cert, report)
    elif place is None:
        _change(props, rendered(props, bundle, _live(props, cert)), cert, report)
    else:
        _move(props, bundle, cert, report, place, cycle)
    return _left_over(props, cert, report)


def _move(
    props: Props, bundle: SecretsBundle, cert: ClientCert, report: Reporter, place: Place, cycle: Callable[[], None]
) -> None:
    """Bring it to its versions in its turn."""
    job = versions.Job(
        props=props,
        cert=cert,
        report=report,
        render=lambda live: rendered(props, bundle, live),
        change=lambda wished: _change(props, wished, cert, report),
        alone=lambda: _one_at_a_time(props, report),
        cycle=cycle,
    )
    versions.carry_out(job, place)


def _left_over(props: Props, cert: ClientCert, report: Reporter) -> str:
    differs = versions.differs(props, cert)
    if differs:
        report.warn(f"{props['node']}: {differs}; the next `homelab up` says what that means and does it")
    return differs


def drift(props: Props, report: Reporter) -> str:
    """How the node's version or config differs from the wished one; "" when it doesn't, or can't be asked.

    A silent node that the cluster does not know has left since the state was written: its config is gone with it.
    """
    bundle = bundle_of(props)
    cert = admin(bundle.os)
    mode = probe(props["address"], cert, timeout_s=5)
    if mode is Mode.MAINTENANCE:
        return "has lost its config: it waits in maintenance mode"
    if mode is not Mode.OURS:
        report.warn(f"{props['node']} ({props['address']}): not read, it is {mode.value}")
        left = mode in (Mode.SILENT, Mode.REFUSED) and _is_unknown(props, cert)
        return "is silent, and the cluster does not know it: it left after this state was written" if left else ""
    try:
        with Talos.secure(props["address"], cert) as talos:
            live = talos.machine_config(timeout_s=30)
    except HomelabError as error:
        report.warn(f"{props['node']} ({props['address']}): not read: {error}")
        return ""
    wished = rendered(props, bundle, live)
    return versions.differs(props, cert) or ("" if same(live, wished) else "its config was changed by hand")


def _is_unknown(props: Props, cert: ClientCert) -> bool:
    """Whether a control plane's API answers and has no such Node."""
    planes: Mapping[str, str] = props.get("control_planes") or {}  # a state of former times may have none
    for name, address in planes.items():
        if name == props["node"]:
            continue
        try:
            with Talos.secure(address, cert) as talos:
                access = talos.kubeconfig(timeout_s=pace.limit(5))
            with Kube(access, timeout_s=pace.limit(5), server=f"https://{address}:{API_PORT}") as kube:
                return kube.node(props["node"]) is None
        except HomelabError:
            continue  # another one may know
    return False


def give_back(props: Props, report: Reporter) -> None:
    """Reset the node to maintenance mode; one that stays silent is left, with a word."""
    cert = admin(bundle_of(props).os)
    deadline = Deadline(pace.limit(60))
    mode = probe(props["address"], cert, timeout_s=5)
    while mode in (Mode.SILENT, Mode.REFUSED) and not deadline.expired:
        report.progress("waiting for it to answer")
        deadline.sleep(pace.interval(5))
        mode = probe(props["address"], cert, timeout_s=5)
    if mode is Mode.OURS:
        _reset(props, cert, report)
    elif mode is not Mode.MAINTENANCE:
        unwiped.note(props["node"], cert)
        report.warn(
            f"{props['node']} ({props['address']}): not reset, its Talos API is {mode.value}; its disk still holds "
            f"this cluster's state: the next `homelab up` resets it, or wipe it before the module is used elsewhere"
        )


def _live(props: Props, cert: ClientCert) -> str:
    with Talos.secure(props["address"], cert) as talos:
        return talos.machine_config(timeout_s=30)


def _answering(props: Props, cert: ClientCert, report: Reporter) -> Mode:
    report.progress("waiting for the Talos API")

    def answer() -> Mode | None:
        mode = probe(props["address"], cert, timeout_s=3)
        return None if mode in (Mode.SILENT, Mode.REFUSED) else mode

    what = f"{props['node']} ({props['address']}): Talos API"
    return Deadline(pace.limit(ANSWER_S)).poll(answer, what, pace.interval(2))


def _configure(props: Props, wished: str, cert: ClientCert, report: Reporter) -> None:
    """Apply the config in maintenance mode and wait until the node answers with the cluster's certificates."""
    report.progress("applying its config")
    deadline = Deadline(pace.limit(CONFIGURED_S))
    what = f"{props['node']} ({props['address']}): taking its config in maintenance mode"
    deadline.poll(lambda: _took_config(props, wished, cert), what, pace.interval(2))
    report.progress("installing")
    try:
        deadline.poll(lambda: _has_config(props, cert), props["node"], pace.interval(2))
    except DeadlineError as error:
        seen = probe(props["address"], cert, timeout_s=5)
        hint = "it came back without it: is install.disk right?" if seen is Mode.MAINTENANCE else str(error)
        raise DeadlineError(
            f"{props['node']} ({props['address']}): config applied, but after {deadline.seconds:.0f} s it is "
            f"{seen.value}; {hint}; `talosctl -n {props['address']} dmesg` tells more"
        ) from error


def _took_config(props: Props, wished: str, cert: ClientCert) -> bool | None:
    """Apply the config. An answer that was lost leaves open whether it was taken: the node is looked at, then asked."""
    if probe(props["address"], cert, timeout_s=3) is Mode.OURS:
        return True
    try:
        with Talos.insecure(props["address"]) as talos:
            talos.apply_configuration(wished, ApplyMode.AUTO, timeout_s=pace.limit(60))
    except TalosError as error:
        if error.code != "FAILED_PRECONDITION":
            raise
        return True  # it installs what it was given before
    except UnreachableError:
        return None
    return True


def _has_config(props: Props, cert: ClientCert) -> bool | None:
    if probe(props["address"], cert, timeout_s=3) is not Mode.OURS:
        return None
    try:
        with Talos.secure(props["address"], cert) as talos:
            talos.version(timeout_s=5)
    except HomelabError:
        return None
    return True


def _change(props: Props, wished: str, cert: ClientCert, report: Reporter) -> None:
    live = _live(props, cert)
    if same(live, wished):
        report.info("adopted: it runs with this very config")
        return
    with rotate_live.in_turn(props, live, wished, cert, report), _one_at_a_time(props, report):
        if rotate_live.only_at_boot(live, wished):
            _apply(props, wished, ApplyMode.STAGED, cert)
            report.warn(f"{props['node']}: config staged; etcd's new authority is used from its next boot on")
        elif not plan.compare(live, wished).reboot:
            with rotate_live.taking(props, live, wished, cert, report):
                _apply(props, wished, ApplyMode.NO_REBOOT, cert)
            report.info("config changed without a reboot")
        elif not props["allow_reboot"]:
            _apply(props, wished, ApplyMode.STAGED, cert)
            report.warn(f"{props['node']}: config staged; it becomes active with the next reboot")
        else:
            before = _boot_id(props, cert)
            _apply(props, wished, ApplyMode.REBOOT, cert)
            _back_after_reboot(props, cert, before, report)


def _one_at_a_time(props: Props, report: Reporter) -> AbstractContextManager[None]:
    """Control planes change one after the other, so that etcd never misses two of them."""
    if props["spec"]["role"] != "controlplane":
        return nullcontext()
    name = f"control planes of {props['spec']['cluster']}"
    limit_s = pace.limit(CONFIGURED_S) * 5
    return locks.held(name, f"changing {props['node']}", Deadline(limit_s), report.progress)


def _apply(props: Props, wished: str, mode: ApplyMode, cert: ClientCert) -> None:
    with Talos.secure(props["address"], cert) as talos:
        talos.apply_configuration(wished, mode, timeout_s=pace.limit(60))


def _boot_id(props: Props, cert: ClientCert) -> str:
    with Talos.secure(props["address"], cert) as talos:
        return talos.boot_id(timeout_s=pace.limit(10))


def _back_after_reboot(props: Props, cert: ClientCert, before: str, report: Reporter) -> None:
    report.progress("rebooting")
    deadline = Deadline(pace.limit(CONFIGURED_S))
    what = f"{props['node']} ({props['address']}): ready after its reboot"
    deadline.poll(lambda: _runs_again(props, cert, before), what, pace.interval(2))
    if props["spec"]["role"] == "controlplane":
        deadline.poll(lambda: _is_member(props, cert), f"{what}, etcd", pace.interval(2))


def _runs_again(props: Props, cert: ClientCert, before: str) -> bool | None:
    try:
        with Talos.secure(props["address"], cert) as talos:
            ready = talos.boot_id(timeout_s=5) != before and talos.machine_stage(timeout_s=5).ready
    except HomelabError:
        return None
    return ready or None


def _is_member(props: Props, cert: ClientCert) -> bool | None:
    etcd = leave.observe(_control_planes(props), cert)
    if etcd is None or etcd.member(props["node"], props["address"]) is None:
        return None
    return (props["node"] in etcd.healthy) or None


def _control_planes(props: Props) -> Mapping[str, str]:
    return dict(props["control_planes"])


def _was_removed(props: Props, cert: ClientCert, report: Reporter) -> bool:
    """Whether this control plane has data of an etcd that its peers no longer count it in.

    It is given time first: one that is just joining is not listed yet either.
    """
    peers = {name: ip for name, ip in _control_planes(props).items() if name != props["node"]}
    if props["spec"]["role"] != "controlplane" or not peers or leave.observe(peers, cert) is None:
        return False
    report.progress("waiting for it to be an etcd member")
    try:
        Deadline(pace.limit(REJOIN_S)).poll(lambda: _is_listed(props, peers, cert), "member", pace.interval(2))
    except DeadlineError:
        return leave.observe(peers, cert) is not None
    return False


def _is_listed(props: Props, peers: Mapping[str, str], cert: ClientCert) -> bool | None:
    etcd = leave.observe(peers, cert)
    return True if etcd is None or etcd.member(props["node"], props["address"]) else None


def _reset(props: Props, cert: ClientCert, report: Reporter) -> None:
    """Wipe STATE and EPHEMERAL and wait for maintenance mode; nothing else on the disk is touched."""
    report.progress("resetting STATE and EPHEMERAL")
    with Talos.secure(props["address"], cert) as talos:
        talos.reset(graceful=False, reboot=True, wipe_labels=WIPE_LABELS, timeout_s=pace.limit(60))
    what = f"{props['node']} ({props['address']}): maintenance mode after its reset"
    Deadline(pace.limit(RESET_S)).poll(
        lambda: (probe(props["address"], cert, timeout_s=3) is Mode.MAINTENANCE) or None, what, pace.interval(2)
    )
