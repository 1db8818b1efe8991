"""Waiting until an admission webhook can judge: its pod runs long before that (FAILURE-MODES 4e.40)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props, Provider, lazily, packed
from providers.engine import Reporter
from providers.errors import DeadlineError

if TYPE_CHECKING:
    from providers.kubernetes import client
else:
    client = lazily("providers.kubernetes.client")

READY_S = 300.0
_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def wait(props: Mapping[str, Any], report: Reporter, seconds: float = READY_S) -> None:
    """Wait until the API server knows the webhook's CA, the webhook has endpoints, and it lets a trial object pass.

    Args:
        props: kubeconfig; `configuration`, the name of the ValidatingWebhookConfiguration; `namespace` and `service`
            of the webhook; `path` in the API and `trial`, an object to create there, which never is.
        report: told what is waited for.
        seconds: how long to wait at most.

    Raises:
        DeadlineError: says what was missing to the end.
        RefusedError: the trial is refused for what it says.
    """
    with client.Kube(props["kubeconfig"]) as kube:
        seen = client.Seen(report.progress)

        def probe() -> bool | None:
            missing = _missing(kube, props)
            seen(missing or "ready")
            return None if missing else True

        where = f"{props['namespace']}/{props['service']}"
        try:
            kube.patiently(probe, f"{where}: the webhook's readiness", Deadline(seconds), seen)
        except DeadlineError as error:
            raise DeadlineError(
                f"{error}; look at `kubectl -n {props['namespace']} get pods`, "
                "and whether control planes reach pods (the CNI)"
            ) from None


def _missing(kube: client.Kube, props: Mapping[str, Any]) -> str:
    """What the webhook still lacks, or nothing."""
    if not _has_authority(kube.look(f"{_CONFIGURATIONS}/{props['configuration']}")):
        return f"{props['configuration']}: no CA yet"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{props['namespace']}/endpointslices"
    if not _has_endpoint(kube.look(f"{slices}?labelSelector=kubernetes.io/service-name={props['service']}")):
        return f"{props['service']}: no endpoint is ready yet"
    if not kube.would_create(props["path"], props["trial"]):
        return f"{props['trial']['kind']}: the cluster does not know this kind yet"
    return ""


def _has_authority(configuration: Mapping[str, Any] | None) -> bool:
    webhooks = (configuration or {}).get("webhooks") or ()
    return bool(webhooks) and all(webhook.get("clientConfig", {}).get("caBundle") for webhook in webhooks)


def _has_endpoint(slices: Mapping[str, Any] | None) -> bool:
    found = (slices or {}).get("items") or ()
    endpoints = [endpoint for part in found for endpoint in part.get("endpoints") or ()]
    # A condition that is not set counts as true, https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
    return any((endpoint.get("conditions") or {}).get("ready") is not False for endpoint in endpoints)


class WebhookProvider(Provider):
    """Waits on create, and again when the chart behind the webhook changes; there is nothing to delete."""

    inputs = ("configuration", "namespace", "service", "path", "trial", "version")
    memos = ("kubeconfig",)

    def create(self, props: Props) -> CreateResult:
        """Wait until the webhook judges."""
        wait(props, Reporter(), pace.limit(READY_S))
        return CreateResult(f"{props['namespace']}/{props['service']}", self.stored(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Wait again."""
        wait(news, Reporter(), pace.limit(READY_S))
        return UpdateResult(self.stored(news))


class Webhook(Resource, module="kubernetes", name="Webhook"):
    """An admission webhook that judges: what it guards can be created after it."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(WebhookProvider(), name, packed(props), opts)
