"""New keys on a running node: in which order nodes take them, and when one has done so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import httpx2

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.kubernetes.kubeconfig import Access
from providers.talos import documents, plan
from providers.talos.client import Mode, Talos, probe
from providers.talos.pki import ClientCert
from providers.talos.secrets import SecretsBundle, kubeconfig

LEADERS_S = 1800.0  # until every control plane has the authority that a worker is to take
TAKEN_S = 300.0
LOOK_S = 5.0
_OF_THE_API = ("cluster.ca", "cluster.acceptedCAs", "cluster.aggregatorCA", "cluster.serviceAccount")
_OF_THE_KUBELET = ("cluster.ca", "cluster.acceptedCAs")
_OF_THE_NODE = ("machine.ca",)
_TOKEN = ("machine.token",)
_ETCD = "cluster.etcd.ca"


def only_at_boot(live: str, wished: str) -> bool:
    """Whether the change is one that cuts a member off from its peers while they run: etcd's authority.

    Talos writes etcd's new certificates at once and never restarts etcd, so it must not be given them before all
    control planes boot together.
    """
    return _touches(plan.compare(live, wished).live, (_ETCD,))


@contextmanager
def taking(props: Props, live: str, wished: str, cert: ClientCert, report: Reporter) -> Iterator[None]:
    """Around the applying of a config without a reboot: wait for whom the node needs, then until it has the new keys.

    A worker's own certificate is signed by a control plane: were the worker first, it would go on showing one of the
    old authority, and be lost when that is dropped.

    Raises:
        DeadlineError: somebody did not take the new keys; says who and what.
    """
    changed = plan.compare(live, wished).live
    leads = props["spec"]["role"] == "controlplane"
    if not leads and _touches(changed, _OF_THE_NODE):
        _leaders_first(props["control_planes"], _authority(wished), report)
    server = _Server.of(props, wished) if leads and _touches(changed, _OF_THE_API) else None
    yield
    what = f"{props['node']} ({props['address']})"
    if _touches(changed, _OF_THE_NODE):
        _serves_under(props["address"], _authority(wished), f"{what}: Talos API with its new certificate", report)
    if server is not None:
        server.wait_for_restart(f"{what}: API server with the new keys", report)
    if _touches(changed, _OF_THE_KUBELET):
        _kubelet_is_back(props["address"], cert, f"{what}: kubelet with the new authority", report)


@contextmanager
def in_turn(props: Props, live: str, wished: str, cert: ClientCert, report: Reporter) -> Iterator[None]:
    """Around a change: workers that reboot for a new machine token do so one by one, after all control planes.

    A worker that boots shows its token to a control plane, and gets no certificate where that has another one.

    Raises:
        DeadlineError: a control plane does not run with the token.
    """
    leads, changed = props["spec"]["role"] == "controlplane", plan.compare(live, wished).reboot
    if leads or not props["allow_reboot"] or not _touches(changed, _TOKEN):
        yield
        return
    report.progress("waiting for the control planes to take the new token")
    deadline = Deadline(pace.limit(LEADERS_S))
    for name, address in props["control_planes"].items():
        what = f"{name} ({address}): running with the new machine token"
        deadline.poll(partial(_has_token, address, _token(wished), cert), what, pace.interval(3))
    with locks.held(f"workers of {props['spec']['cluster']}", f"changing {props['node']}", deadline, report.progress):
        yield


def _has_token(address: str, token: str, cert: ClientCert) -> bool | None:
    try:
        with Talos.secure(address, cert) as talos:
            return _token(talos.machine_config(timeout_s=LOOK_S)) == token or None
    except HomelabError:
        return None


def _token(config: str) -> str:
    return str(documents.main(documents.load(config))["machine"].get("token"))


def _touches(changed: tuple[str, ...], prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for path in changed for prefix in prefixes)


def _authority(config: str) -> ClientCert:
    """What shows that a node's certificate is of the signing authority, and of no other that is accepted."""
    coded = documents.main(documents.load(config))["machine"]["ca"]["crt"]
    return ClientCert(documents.decoded(coded), "", "")


def _leaders_first(control_planes: Mapping[str, str], authority: ClientCert, report: Reporter) -> None:
    report.progress("waiting for the control planes to take the new authority")
    deadline = Deadline(pace.limit(LEADERS_S))
    for name, address in control_planes.items():
        _serves_under(address, authority, f"{name} ({address}): Talos API with its new certificate", report, deadline)


def _serves_under(
    address: str, authority: ClientCert, what: str, report: Reporter, deadline: Deadline | None = None
) -> None:
    report.progress("waiting for the Talos API's new certificate")
    (deadline or Deadline(pace.limit(TAKEN_S))).poll(
        lambda: probe(address, authority, timeout_s=LOOK_S) is Mode.OURS or None, what, pace.interval(1)
    )


def _kubelet_is_back(address: str, cert: ClientCert, what: str, report: Reporter) -> None:
    """Talos restarts it for the change."""
    report.progress("waiting for the kubelet")

    def healthy() -> bool | None:
        try:
            with Talos.secure(address, cert) as talos:
                service = talos.services(timeout_s=LOOK_S).get("kubelet")
        except HomelabError:
            return None
        return (service is not None and bool(service.healthy)) or None

    Deadline(pace.limit(TAKEN_S)).poll(healthy, what, pace.interval(1))


@dataclass(frozen=True)
class _Server:
    """One control plane's API server. Its start is what tells it from the one before: both serve the same port."""

    access: Access
    started: str

    @classmethod
    def of(cls, props: Props, wished: str) -> _Server:
        """The API server that runs now. `wished` holds the keys that it accepts already."""
        bundle = SecretsBundle.from_machine_config(wished)
        port = int(str(props["spec"].get("port") or 6443).partition(".")[0])
        text = kubeconfig(props["node"], f"https://{props['address']}:{port}", bundle.issue_kubernetes_admin())
        access = Access.parse(text)
        return cls(access, _started(access))

    def wait_for_restart(self, what: str, report: Reporter) -> None:
        """Wait until another process serves, and is ready."""
        report.progress("waiting for its API server")

        def again() -> bool | None:
            started = _started(self.access)
            return (bool(started) and started != self.started and _ready(self.access)) or None

        Deadline(pace.limit(TAKEN_S)).poll(again, what, pace.interval(1))


def _started(access: Access) -> str:
    """When the process began, as it says itself; "" when nobody answers."""
    try:
        lines = _get(access, "/metrics").splitlines()
    except UnreachableError:
        return ""
    return next((line for line in lines if line.startswith("process_start_time_seconds ")), "")


def _ready(access: Access) -> bool:
    try:
        return _get(access, "/readyz").strip() == "ok"
    except UnreachableError:
        return False


def _get(access: Access, path: str) -> str:
    try:
        with httpx2.Client(base_url=access.server, verify=access.tls(), timeout=LOOK_S, trust_env=False) as http:
            return http.get(path).raise_for_status().text
    except httpx2.HTTPError as error:
        raise UnreachableError(f"{access.server}{path}: {type(error).__name__}") from error
