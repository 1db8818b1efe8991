"""What is looked at, and done in the cluster, after each step of a rotation. Every part of it may be done again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from cli import backup, observe
from cli.observe import Lab
from cli.restore import Said
from cli.rotate_runs import Held
from cli.stacks import Stack
from providers import pace
from providers.deadline import Deadline
from providers.errors import UserError
from providers.kubernetes.client import Kube
from providers.kubernetes.workloads import renew_tokens, restart
from providers.talos import rotate_etcd
from providers.talos.rotate_check import Nodes, all_ready, clients, prove_kubernetes, prove_talos
from providers.talos.secrets import SecretsBundle, kubeconfig

RESTART_S = 1800.0
OBJECT_S = 180.0
_TOKENS = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-"
_AGGREGATED = "/apis/apiregistration.k8s.io/v1/apiservices"

Say = Callable[[str], None]
Proof = Callable[[Held], None]


def opened(stack: Stack) -> Lab:
    """The lab, and its pace for what this command waits for itself."""
    os.environ.setdefault("HOMELAB_TIME_SCALE", str(stack.time_scale))
    return observe.open_lab(stack)


def refuse(lab: Lab, what: str) -> None:
    """What can be known before anything is begun.

    Raises:
        UserError: the settings stand in the way.
    """
    if what == "bootstrap-tokens" and not lab.settings.cluster.talos.allow_reboot:
        raise UserError(
            "cluster.talos.allow_reboot: is off, and Talos takes a new machine token only with a reboot of every node; "
            "set it to true for the rotation (with it off, the join token alone could change, and only half of it)"
        )


def prove(lab: Lab, held: Held, say: Say) -> None:
    """Do what the present step asks for in the cluster, and prove it.

    Raises:
        HomelabError: it could not be proven; says who was let in or turned away where.
    """
    what, step = held.rotation.what, held.rotation.step
    cluster = nodes(lab)
    if what == "os-ca":
        prove_talos(cluster, clients("os", held.bundle, held.rotation), say)
    elif what == "kubernetes-ca":
        if step == 2:
            _restart(lab, held.bundle, fingerprint(held.bundle.kubernetes.signing), say)
        prove_kubernetes(cluster, clients("kubernetes", held.bundle, held.rotation), say)
    else:
        _single(lab, held, say)


def _single(lab: Lab, held: Held, say: Say) -> None:
    what, step, bundle = held.rotation.what, held.rotation.step, held.bundle
    if what == "etcd-ca":
        _etcd(lab, bundle, say)
    elif what == "service-account":
        _renew_tokens(lab, bundle, say)
        _restart(lab, bundle, fingerprint(bundle.service_account_key), say)
    elif what == "aggregator-ca":
        _aggregated(lab, bundle, say)
    elif step == 1:
        _forget_token(lab, held, say)
    all_ready(nodes(lab), bundle)
    say(f"every API server answers, all {len(nodes(lab).every)} nodes are Ready")


def nodes(lab: Lab) -> Nodes:
    """The lab's nodes as the provider wants them."""
    workers = {node.name: str(node.address) for node in lab.settings.enabled_nodes if not node.is_control_plane}
    return Nodes(lab.control_planes, workers, lab.vip, lab.settings.cluster.endpoint.port)


def fingerprint(key: str) -> str:
    """A short name for a key that gives nothing of it away: what pods were restarted for."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def _kube(lab: Lab, bundle: SecretsBundle) -> Kube:
    server = f"https://{lab.vip}:{lab.settings.cluster.endpoint.port}"
    return Kube(kubeconfig(lab.settings.cluster.name, server, bundle.issue_kubernetes_admin()))


def _restart(lab: Lab, bundle: SecretsBundle, reason: str, say: Say) -> None:
    say("restarting what runs in the cluster")
    with _kube(lab, bundle) as kube:
        count = restart(kube, reason, Deadline(pace.limit(RESTART_S)))
    say(f"{count} workloads were restarted, or had been")


def _renew_tokens(lab: Lab, bundle: SecretsBundle, say: Say) -> None:
    with _kube(lab, bundle) as kube:
        reason = fingerprint(bundle.service_account_key)
        renewed = renew_tokens(kube, reason, Deadline(pace.limit(OBJECT_S)))
    if renewed:
        up = f"`homelab refresh --stack {lab.stack.name}`, then `homelab up --stack {lab.stack.name}`"
        say(f"{len(renewed)} tokens that are kept in Secrets are made anew; {up} shows Headlamp's in `logins`")


def _aggregated(lab: Lab, bundle: SecretsBundle, say: Say) -> None:
    with _kube(lab, bundle) as kube:

        def available() -> bool | None:
            items = (kube.look(_AGGREGATED) or {}).get("items", ())
            return True if all(_is_available(item) for item in items if item["spec"].get("service")) else None

        kube.patiently(available, "aggregated APIs available", Deadline(pace.limit(OBJECT_S)))
    say("aggregated APIs answer")


def _is_available(item: dict[str, object]) -> bool:
    status = item.get("status")
    conditions = status.get("conditions", ()) if isinstance(status, dict) else ()
    return any(found["type"] == "Available" and found["status"] == "True" for found in conditions)


def _forget_token(lab: Lab, held: Held, say: Say) -> None:
    """The new token must be known before the old one goes, or no kubelet could ask for a certificate."""
    new, old = held.bundle.bootstrap_token.partition(".")[0], held.rotation.note
    deadline = Deadline(pace.limit(OBJECT_S))
    with _kube(lab, held.bundle) as kube:
        kube.patiently(lambda: kube.look(_TOKENS + new), "the new join token in the cluster", deadline)
        if old and old != new:
            kube.remove(_TOKENS + old, deadline)
    say("the old join token is deleted")


def _etcd(lab: Lab, bundle: SecretsBundle, say: Say) -> None:
    if observe.observe(lab).cluster["etcd"]:
        say(f"a snapshot, in case: {backup.make(lab, None).path}")
    rotate_etcd.boot_together(lab.control_planes, bundle, Said())
    say("every control plane has booted with etcd's new authority")
