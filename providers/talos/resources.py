"""A cluster's secrets, its machines and its bootstrap, as Pulumi resources over the Talos client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import ConfigureRequest, CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter
from providers.errors import HomelabError
from providers.talos import skew
from providers.talos.pki import days_left
from providers.talos.secrets import SecretsBundle, kubeconfig, talosconfig
from providers.talos.wire import pack, unpack
from providers.turingpi import BOARDS

if TYPE_CHECKING:
    from providers.talos import bootstrap, effect, identity, machine, rotation
    from providers.turingpi import cycle
else:
    bootstrap, effect, identity, machine, rotation = (
        lazily(f"providers.talos.{name}") for name in ("bootstrap", "effect", "identity", "machine", "rotation")
    )
    cycle = lazily("providers.turingpi.cycle")

RENEW_BELOW_DAYS = 30


class SecretsProvider(Provider):
    """Makes the cluster's secrets once, or reads them back from a cluster that already runs.

    `rotate` asks for one step of an exchange of keys (`providers.talos.rotation`). It is a wish, not a state: a run
    without it leaves the keys where the last step left them, and a step that was taken is not taken again.
    """

    inputs = ("cluster",)
    memos = ("control_planes", "workers", "talosconfig_path", "rotate")

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """They change with a step of a rotation, or when another cluster's talosconfig was put in place."""
        if not is_known(news):
            return DiffResult(changes=False)
        state = rotation.unpack(olds.get("rotation"))
        if rotation.is_due(state, str(news.get("rotate") or "")):
            Reporter().info(f"keys: step {news['rotate']}")
            return DiffResult(changes=True)
        if state.under_way and not news.get("rotate"):
            Reporter().warn(rotation.reminder(state))
        return DiffResult(changes=identity.given_another(_lab(news), _bundle(olds)))

    def create(self, props: Props) -> CreateResult:
        """Read the secrets back where a cluster answers, else make them."""
        bundle = identity.establish(_lab(props), Reporter())
        return CreateResult(props["cluster"], self.stored(props, bundle=pack(bundle), rotation=""))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Take a step of a rotation, or take over the cluster that the talosconfig in place belongs to."""
        before, wish = rotation.unpack(olds.get("rotation")), str(news.get("rotate") or "")
        if rotation.is_due(before, wish):
            bundle, after = rotation.advance(_bundle(olds), before, wish)
        else:
            bundle, after = identity.establish(_lab(news), Reporter()), rotation.NONE
        return UpdateResult(self.stored(news, bundle=pack(bundle), rotation=rotation.pack(after)))


class MachineProvider(Provider):
    """Keeps a node's machine config applied and its versions as wished.

    Deleting it resets STATE and EPHEMERAL, and nothing else.
    """

    inputs = ("node", "address", "spec", "secrets", "credentials", "generation")
    memos = (
        *("allow_reboot", "control_planes", "schematic", "recipe", "factory", "rank", "max_unavailable"),
        *("board", "slot"),
    )
    boards: object = None  # the settings' boards, in the engine's process only: state must not get hold of them

    def configure(self, req: ConfigureRequest) -> None:
        """Keep what the config says of the boards: a node that an upgrade leaves silent gets its power cut."""
        self.boards = req.config.get(BOARDS)

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """Refuse, at preview, versions to which no single step leads."""
        before, after = (_versions(props) for props in (olds, news))
        steps = skew.step(before, after) if before and after else []
        return [("spec", f"{news['node']}: {where}: {reason}") for where, reason in steps]

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Say in the preview what a change will do to the running node."""
        changed = changed_keys(olds, news, self.inputs)
        if changed and is_known(news) and olds.get("spec"):
            _say(effect.effect(olds, news), news)
        elif str(olds.get("drift") or "").startswith(skew.RUNS):
            _say(effect.comes_to(olds), news)
        return DiffResult(changes=bool(changed) or bool(olds.get("drift")))

    def create(self, props: Props) -> CreateResult:
        """Apply the config to a node in maintenance mode, or adopt one that already runs with it."""
        drift = machine.settle(props, Reporter())
        return CreateResult(f"{props['node']}-machine", self.stored(props, drift=drift))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Apply the changed config in the mildest mode that works, and roll out changed versions, in turn."""
        report = Reporter()
        drift = machine.settle(news, report, olds, lambda: cycle.power_cycle(news, self.boards))
        return UpdateResult(self.stored(news, drift=drift))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Compare the live config with the wished one; a node that waits in maintenance mode has lost its config."""
        drift = machine.drift(props, Reporter())
        return ReadResult(id_, {**props, "drift": drift})

    def delete(self, _id: str, props: Props) -> None:
        """Reset the node to maintenance mode."""
        machine.give_back(props, Reporter())


def _say(found: effect.Effect, news: Props) -> None:
    report = Reporter()
    (report.warn if found.reboots else report.info)(found.line(news["node"], news["spec"]["role"]))


def _versions(props: Props) -> tuple[str, str] | None:
    spec = props.get("spec")
    return (spec["talos"], spec["kubernetes"]) if isinstance(spec, dict) and is_known(spec) else None


class ClusterProvider(Provider):
    """Bootstraps etcd once, and gives the credentials that people use."""

    inputs = ("cluster", "control_planes", "vip", "dns", "port", "secrets")

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:
        """Refuse, at preview, a change that would cost the quorum, as far as the lab can be asked now."""
        if not olds.get("control_planes") or not is_known(news):
            return []
        leaving = sorted(set(olds["control_planes"]) - set(news["control_planes"]))
        reason = bootstrap.why_not_leave(leaving, olds["control_planes"], _bundle(news)) if leaving else None
        return [("control_planes", reason)] if reason else []

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: client certificates that are about to expire are issued anew."""
        return DiffResult(changes=bool(changed_keys(olds, news, self.inputs)) or _expiring(olds))

    def create(self, props: Props) -> CreateResult:
        """Bootstrap the cluster unless any control plane already has a member, and wait until its API answers."""
        bootstrap.ensure(_plan(props), _bundle(props), Reporter())
        return CreateResult(props["cluster"], self.stored(props, **_credentials(props)))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Issue the credentials anew for the changed endpoints."""
        return UpdateResult(self.stored(news, **_credentials(news)))


def _bundle(props: Props) -> SecretsBundle:
    return unpack(props.get("secrets") or props["bundle"])


def _lab(props: Props) -> identity.Lab:
    return identity.Lab(props["cluster"], props["control_planes"], props["workers"], Path(props["talosconfig_path"]))


def _plan(props: Props) -> bootstrap.Plan:
    return bootstrap.Plan(props["cluster"], props["control_planes"], props["vip"], int(props["port"]))


def _credentials(props: Props) -> Props:
    bundle, endpoints = _bundle(props), list(props["control_planes"].values())
    server = f"https://{props['vip']}:{int(props['port'])}"
    return {
        "talosconfig": talosconfig(props["cluster"], bundle.issue_client(), endpoints, endpoints),
        "kubeconfig": kubeconfig(props["cluster"], server, bundle.issue_kubernetes_admin()),
    }


def _expiring(olds: Props) -> bool:
    try:
        left = min(days_left(pem) for pem in identity.client_certificates(olds["talosconfig"], olds["kubeconfig"]))
    except (HomelabError, KeyError, ValueError):
        return True
    return left < RENEW_BELOW_DAYS


class Secrets(Resource, module="talos", name="Secrets"):
    """The secrets bundle of a cluster: `bundle`, and `rotation` with the keys of one under way; both secret."""

    bundle: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["bundle", "rotation"])
        outputs = {"bundle": None, "rotation": None}
        super().__init__(
            SecretsProvider(), name, {**packed(props), **outputs}, pulumi.ResourceOptions.merge(secret, opts)
        )


class Machine(Resource, module="talos", name="Machine"):
    """A node's machine config, applied."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(MachineProvider(), name, packed(props), opts)


class Cluster(Resource, module="talos", name="Cluster"):
    """The bootstrapped cluster: `kubeconfig` and `talosconfig`, both secret."""

    kubeconfig: pulumi.Output[str]
    talosconfig: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        self.bundle: pulumi.Output[str] = pulumi.Output.secret(props["secrets"])  # for keys of programs in the cluster
        secret = pulumi.ResourceOptions(additional_secret_outputs=["kubeconfig", "talosconfig"])
        outputs = {"kubeconfig": None, "talosconfig": None}
        super().__init__(
            ClusterProvider(), name, {**packed(props), **outputs}, pulumi.ResourceOptions.merge(secret, opts)
        )
