"""Bringing a node that runs to the wished versions of Talos and Kubernetes, in its turn among all nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.talos import calm, factory, kubernetes_upgrade, plan, rollout, skew, upgrade
from providers.talos.client import ApplyMode, Talos
from providers.talos.compare import same
from providers.talos.kubernetes_upgrade import CONTROL_PLANE, KUBELET, PROXY
from providers.talos.pki import ClientCert
from providers.talos.rollout import Place, Step

ANSWER_S = 420.0


def target(props: Props) -> upgrade.Target:
    """What a node is to run, by its resource's inputs."""
    spec = props["spec"]
    return upgrade.Target(spec["talos"], props.get("schematic") or "", spec["installer"])


def announced(olds: Props, news: Props) -> bool:
    """Whether the preview could tell that this update changes versions; only then a node may drain and reboot."""
    before, after = olds.get("spec") or {}, news["spec"]
    changed = any(before.get(key) != after.get(key) for key in ("talos", "kubernetes", "installer"))
    return bool(before) and (changed or str(olds.get("drift") or "").startswith(skew.RUNS))


def differs(props: Props, cert: ClientCert) -> str:
    """How a node differs from what it is to run; "" when it doesn't, or does not say."""
    seen = upgrade.TalosDevice(props["address"], cert, lambda: None).look()
    return target(props).differs(seen) if seen is not None else ""


def of(props: Props) -> rollout.Rollout:
    """The roll-out of this node's cluster in this run."""
    return rollout.of(f"{props['spec']['cluster']} {sorted(props['control_planes'].values())}")


@dataclass(frozen=True)
class Job:
    """One node's way to its versions.

    Attributes:
        props: its resource's inputs.
        cert: for the Talos API.
        report: told what goes on.
        render: the wished machine config, in the shape of the live one that it is given.
        change: has a config taken in the mildest way that works.
        alone: held while a control plane may be away.
        cycle: cuts the node's power and gives it back.
    """

    props: Props
    cert: ClientCert
    report: Reporter
    render: Callable[[str], str]
    change: Callable[[str], None]
    alone: Callable[[], AbstractContextManager[None]]
    cycle: Callable[[], None]

    @property
    def node(self) -> str:
        """The node's name."""
        return str(self.props["node"])

    @property
    def leads(self) -> bool:
        """Whether it is a control plane."""
        return bool(self.props["spec"]["role"] == "controlplane")

    @property
    def rank(self) -> int:
        """Its place in the order of nodes."""
        return int(self.props.get("rank") or 0)

    @property
    def width(self) -> int:
        """How many workers may be away at once."""
        return max(1, int(self.props.get("max_unavailable") or 1))

    @property
    def device(self) -> upgrade.TalosDevice:
        """Its Talos API."""
        return upgrade.TalosDevice(self.props["address"], self.cert, self.cycle)

    @property
    def lab(self) -> calm.Lab:
        """The cluster around it."""
        planes = dict(self.props["control_planes"])
        return calm.Lab(self.node, self.props["spec"]["role"], planes, self.cert, self.width)

    @property
    def around(self) -> calm.Calm:
        """Who looks whether that cluster can spare it, and is whole again."""
        return calm.Calm(self.lab, self.report)

    # A node's machine config, as `kubernetes_upgrade.Device` has it

    def config(self) -> str:
        """The live one."""
        with Talos.secure(self.props["address"], self.cert) as talos:
            return talos.machine_config(timeout_s=30)

    def apply(self, config: str) -> None:
        """Have it taken without a reboot."""
        with Talos.secure(self.props["address"], self.cert) as talos:
            talos.apply_configuration(config, ApplyMode.NO_REBOOT, timeout_s=pace.limit(60))

    def pull(self, image: str, *, system: bool) -> None:
        """Fetch an image; `system` for the kubelet's."""
        with Talos.secure(self.props["address"], self.cert) as talos:
            talos.pull_image(image, system=system)

    def manifests(self) -> list[dict[str, Any]]:
        """What Talos would put into the cluster."""
        with Talos.secure(self.props["address"], self.cert) as talos:
            return talos.manifests(timeout_s=30)


def carry_out(job: Job, place: Place) -> None:
    """Look at the node, queue up for what it needs, and do that step by step.

    Raises:
        RefusedError: another node failed first, or the cluster can't spare this one; it was not begun.
        UpgradeError: it did not come to its version; it is back on the old one, or the message says what to type.
    """
    steps = _needed(job)
    place.needs(list(steps))
    for step, do in sorted(steps.items()):
        width = job.width if step == rollout.talos(job.rank, job.node, leads=False) else 1
        with place.turn(step, width, job.report.progress):
            do(place)
    last = job.config()
    if not same(last, job.render(last)):
        job.change(job.render(last))


Do = Callable[[Place], None]


def _needed(job: Job) -> dict[Step, Do]:
    """The node's steps, by what is seen of it now."""
    seen = _look(job)
    live = job.config()
    wished = job.render(live)
    parts = kubernetes_upgrade.changed(live, wished)
    found: dict[Step, Do] = {}
    if target(job.props).differs(seen) or seen.unproved:
        found[rollout.talos(job.rank, job.node, leads=job.leads)] = lambda place: _talos(job, place, seen)
    elif not same(kubernetes_upgrade.with_images(wished, kubernetes_upgrade.images(live)), live):
        found[rollout.talos(job.rank, job.node, leads=job.leads)] = lambda _: _config(job)
    return found | _kubernetes(job, parts)


def _look(job: Job) -> upgrade.Running:
    job.report.progress("looking at its versions")
    return Deadline(pace.limit(ANSWER_S)).poll(job.device.look, f"{job.node}: its Talos API", pace.interval(2))


def _talos(job: Job, place: Place, before: upgrade.Running) -> None:
    wished, around = target(job.props), job.around
    step = rollout.talos(job.rank, job.node, leads=job.leads)
    with _alone(job):
        if wished.differs(before):
            around.before(lambda: place.rollout.busy(step))
            if job.props.get("recipe"):
                factory.register(job.props["factory"], job.props["recipe"])
        node = upgrade.Node(job.node, job.props["address"], int(job.props.get("slot") or 0), job.device)
        seen = upgrade.bring(node, wished, job.report)
        around.after(seen.boot)
    job.report.info(f"Talos {before.version} -> {seen.version}, confirmed" if wished.differs(before) else "confirmed")
    _config(job)


def _config(job: Job) -> None:
    """Everything of the config but Kubernetes' images: those have steps of their own."""
    live = job.config()
    wished = kubernetes_upgrade.with_images(job.render(live), kubernetes_upgrade.images(live))
    if not same(live, wished):
        reboots = bool(plan.compare(live, wished).reboot) and job.props["allow_reboot"]
        job.change(wished)
        if reboots and (seen := job.device.look()) is not None:
            job.around.after(seen.boot)


def _kubernetes(job: Job, parts: tuple[str, ...]) -> dict[Step, Do]:
    """The steps for the images that differ; they read the wished ones anew, for Talos may have moved meanwhile."""
    found: dict[Step, Do] = {}
    for number, component in enumerate(CONTROL_PLANE):
        if component in parts:
            found[rollout.control_plane(number, job.rank, job.node)] = _pod(job, component)
    if PROXY in parts:
        found[rollout.control_plane(len(CONTROL_PLANE), job.rank, job.node)] = lambda _: _proxy(job)
    if KUBELET in parts:
        found[rollout.kubelet(job.rank, job.node, leads=job.leads)] = lambda _: _kubelet(job)
    if job.leads and found:
        found[rollout.manifests(job.rank, job.node)] = lambda _: _move(job).manifests()
    return found


def _pod(job: Job, component: str) -> Do:
    def do(_: Place) -> None:
        with _alone(job):
            _move(job).pod(component, _image(job, component))

    return do


def _proxy(job: Job) -> None:
    _move(job).proxy(_image(job, PROXY))


def _kubelet(job: Job) -> None:
    image = _image(job, KUBELET)
    _move(job).kubelet(image)
    job.report.info(f"Kubernetes {kubernetes_upgrade.version(image)}")


def _image(job: Job, component: str) -> str:
    return kubernetes_upgrade.images(job.render(job.config()))[component]


def _move(job: Job) -> kubernetes_upgrade.Move:
    return kubernetes_upgrade.Move(job.node, job, job.around.kube, job.report)


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """For control planes: nobody else's run changes another one meanwhile."""
    if not job.leads:
        yield
        return
    with job.alone():
        yield
