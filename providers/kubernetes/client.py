"""What membership needs of the Kubernetes API: look, wait, cordon, drain, delete. Every call is bounded.

The wire is the plain REST API, https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from providers.deadline import Deadline
from providers.errors import (
    AuthError,
    DeadlineError,
    ForeignNodeError,
    HomelabError,
    ProtocolError,
    RefusedError,
    UnreachableError,
)
from providers.kubernetes.drain import Drained, drain
from providers.kubernetes.kubeconfig import Access

REQUEST_S = 10.0
POLL_S = 0.25
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
# An API server in front of an etcd that is electing, or one that is starting, says so with these; they pass.
PASSING = frozenset({429, 500, 502, 503, 504})

Progress = Callable[[str], None]
T = TypeVar("T")


def _quiet(_: str) -> None:
    """The progress of somebody who does not look."""


@dataclass(frozen=True)
class NodeView:
    """What the cluster says about one node.

    Attributes:
        uid: changes when a node left and came back.
        ready: the kubelet's Ready condition is True.
        reason: the Ready condition's message, or why there is none.
        boot_id: changes at every boot.
        addresses: all InternalIPs.
    """

    name: str
    uid: str
    ready: bool
    reason: str
    boot_id: str
    kubelet: str
    addresses: tuple[str, ...]
    unschedulable: bool

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> NodeView:
        """Take what matters out of a v1 Node."""
        metadata, status = item["metadata"], item.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        condition = conditions.get("Ready", {})
        info = status.get("nodeInfo", {})
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            ready=condition.get("status") == "True",
            reason=condition.get("message") or condition.get("reason") or "the kubelet has not reported yet",
            boot_id=info.get("bootID", ""),
            kubelet=info.get("kubeletVersion", ""),
            addresses=tuple(a["address"] for a in status.get("addresses", ()) if a["type"] == "InternalIP"),
            unschedulable=bool(item.get("spec", {}).get("unschedulable")),
        )


class Kube:
    """A client of one cluster, over the kubeconfig that the program hands out.

    Args:
        kubeconfig: its text.
        server: another way to the same cluster ("https://10.0.0.3:6443"), for when the VIP is not up.
        timeout_s: the bound of a single request.

    Every method raises UnreachableError (no answer, or the server cannot serve now), AuthError (certificate
    refused), ForeignNodeError (another cluster's certificate), RefusedError (understood and denied) or
    ProtocolError (not a Kubernetes API).
    """

    def __init__(self, kubeconfig: str, *, server: str | None = None, timeout_s: float = REQUEST_S) -> None:
        access = Access.parse(kubeconfig)
        self.server = server or access.server
        # No proxy from the environment: the lab is on this network.
        self._http = httpx2.Client(
            base_url=self.server, verify=access.tls(), timeout=timeout_s, trust_env=False, follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    # -- looking ------------------------------------------------------------------------------------------------

    def healthy(self) -> bool:
        """Whether the API server says of itself, and of its etcd, that it can serve."""
        try:
            with _translated(self.server):
                return self._http.get("/readyz").status_code == httpx2.codes.OK
        except UnreachableError:
            return False

    def version(self) -> str:
        """The API server's version, like "v1.36.1"."""
        with _shaped(self.server):
            return str(self._get("/version")["gitVersion"])

    def node(self, name: str) -> NodeView | None:
        """One node; None when the cluster does not know it."""
        item = self._call("GET", f"/api/v1/nodes/{name}", missing_ok=True)
        with _shaped(self.server):
            return None if item is None else NodeView.parse(item)

    def nodes(self) -> tuple[NodeView, ...]:
        """All nodes of the cluster."""
        with _shaped(self.server):
            return tuple(NodeView.parse(item) for item in self._get("/api/v1/nodes")["items"])

    def pods(self, node: str) -> tuple[Mapping[str, Any], ...]:
        """The v1 Pods bound to a node, in every namespace."""
        with _shaped(self.server):
            return tuple(self._get("/api/v1/pods", {"fieldSelector": f"spec.nodeName={node}"})["items"])

    def look(self, path: str) -> Mapping[str, Any] | None:
        """Any object or list, by its path in the API; None when it is not there, or its kind isn't."""
        return self._call("GET", path, missing_ok=True)

    def wait_ready(self, name: str, deadline: Deadline, progress: Progress = _quiet) -> NodeView:
        """Wait until a node has joined and its kubelet reports Ready. An API that is away for a while is waited for.

        Raises:
            DeadlineError: says what was seen last.
        """
        seen = Seen(progress)

        def probe() -> NodeView | None:
            view = self.node(name)
            if view is None:
                seen(f"{name}: has not joined yet")
            elif not view.ready:
                seen(f"{name}: joined, not Ready ({view.reason})")
            return view if view and view.ready else None

        return self.patiently(probe, f"{name}: Ready", deadline, seen)

    # -- changing -----------------------------------------------------------------------------------------------

    def cordon(self, name: str, deadline: Deadline, *, unschedulable: bool = True) -> bool:
        """Keep new pods off a node (or let them on again). Says whether the node exists; repeating it is harmless."""
        body = {"spec": {"unschedulable": unschedulable or None}}
        return self._until_done("PATCH", f"/api/v1/nodes/{name}", deadline, body, MERGE_PATCH) is not None

    def drain(self, name: str, deadline: Deadline, progress: Progress = _quiet) -> Drained:
        """Cordon a node and have its pods leave; see `providers.kubernetes.drain`."""
        return drain(self, name, deadline, progress)

    def delete_node(self, name: str, deadline: Deadline) -> bool:
        """Take a Node object out. Says whether there was one: that it is gone already is as good (4c.24)."""
        return self._until_done("DELETE", f"/api/v1/nodes/{name}", deadline) is not None

    def merge(self, path: str, body: Mapping[str, Any], deadline: Deadline) -> bool:
        """Merge into any object, by its path in the API. Says whether there is one."""
        return self._until_done("PATCH", path, deadline, body, MERGE_PATCH) is not None

    def remove(self, path: str, deadline: Deadline) -> bool:
        """Delete any object. Says whether there was one."""
        return self._until_done("DELETE", path, deadline) is not None

    def evict(self, pod: Mapping[str, Any]) -> str | None:
        """Ask for one pod to leave by the Eviction API, which keeps to disruption budgets.

        Returns:
            None when the pod is leaving or gone, else why it may not leave now.
        """
        metadata = pod["metadata"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            # A pod of the same name that came in between (a StatefulSet's) is not the one that was meant.
            "deleteOptions": {"preconditions": {"uid": metadata["uid"]}},
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction"
        with _translated(self.server):
            answer = self._http.post(path, json=body)
        if answer.is_success or answer.status_code in (404, 409):
            return None
        if answer.status_code in PASSING | {403}:
            return _words(answer)
        raise self.refusal(answer)

    def would_create(self, path: str, body: Mapping[str, Any]) -> bool:
        """Ask for an object with everything but the writing of it: schema, admission, webhooks. False: no such kind.

        Raises:
            RefusedError: it would be refused.
            UnreachableError: also when a webhook does not answer the API server.
        """
        return self._call("POST", path, params={"dryRun": "All"}, body=body, missing_ok=True) is not None

    def apply(self, path: str, body: Mapping[str, Any], manager: str) -> Mapping[str, Any]:
        """Have an object be as `body` says, whoever made it: server-side apply, as the field manager `manager`."""
        params = {"fieldManager": manager, "force": "true"}
        return self._call("PATCH", path, params=params, body=body, content_type=APPLY_PATCH) or {}

    # -- the wire -----------------------------------------------------------------------------------------------

    def _until_done(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any] | None:
        """Repeat a request that may be repeated while the API is away; None when the object is not there."""

        def attempt() -> tuple[dict[str, Any] | None]:
            return (self._call(method, path, body=body, content_type=content_type, missing_ok=True),)

        return self.patiently(attempt, f"{method} {self.server}{path}", deadline)[0]

    def patiently(self, probe: Callable[[], T | None], what: str, deadline: Deadline, seen: Seen | None = None) -> T:
        """Poll, taking an API that is away for "not yet": a VIP moves, an etcd elects, a server starts.

        Raises:
            DeadlineError: names what was seen last.
        """
        seen = seen or Seen(_quiet)

        def tolerant() -> T | None:
            try:
                return probe()
            except UnreachableError as exc:
                seen(str(exc))
                return None

        try:
            return deadline.poll(tolerant, what, POLL_S)
        except DeadlineError as exc:
            raise DeadlineError(f"{exc}; last seen: {seen.last}" if seen.last else str(exc)) from None

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        missing_ok: bool = False,
    ) -> dict[str, Any] | None:
        with _translated(self.server):
            answer = self._http.request(
                method,
                path,
                params=params,
                content=None if body is None else json.dumps(body),
                headers={"Content-Type": content_type},
            )
        if missing_ok and answer.status_code == httpx2.codes.NOT_FOUND and (_is_status(answer) or _is_no_kind(answer)):
            return None
        if not answer.is_success:
            raise self.refusal(answer)
        return _parsed(answer, self.server)

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self._call("GET", path, params=params) or {}

    def refusal(self, answer: httpx2.Response) -> HomelabError:
        """Translate an answer that is no success."""
        where, code = f"{answer.request.method} {answer.request.url}", answer.status_code
        if code == httpx2.codes.UNAUTHORIZED:
            return AuthError(
                f"{where}: the API server does not accept the client certificate; "
                "it has expired or belongs to another cluster (`homelab up` renews it)"
            )
        if code in PASSING:
            return UnreachableError(f"{where}: the API server cannot serve now ({code}: {_words(answer)})")
        if not _is_status(answer):
            return ProtocolError(f"{where}: this is not a Kubernetes API (HTTP {code})")
        return RefusedError(f"{where}: refused ({code}: {_words(answer)})")


class Seen:
    """Passes a word on when it is a new one, and remembers the last for the error."""

    def __init__(self, progress: Progress) -> None:
        self.last = ""
        self._progress = progress

    def __call__(self, word: str) -> None:
        """Note a word."""
        if word != self.last:
            self.last = word
            self._progress(word)


@contextmanager
def _translated(server: str) -> Iterator[None]:
    """No exception of the HTTP library leaves this module."""
    try:
        yield
    except httpx2.TimeoutException:
        raise UnreachableError(f"{server}: no answer in time") from None
    except (httpx2.TransportError, httpx2.DecodingError, httpx2.InvalidURL) as exc:
        raise _transport_error(server, exc) from exc


@contextmanager
def _shaped(server: str) -> Iterator[None]:
    """An object without the fields that every cluster's has is not from a cluster."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise ProtocolError(
            f"{server}: answered with an object of another shape ({type(exc).__name__}: {exc})"
        ) from exc


def _transport_error(server: str, exc: Exception) -> HomelabError:
    causes = tuple(_causes(exc))
    untrusted = next((c for c in causes if isinstance(c, ssl.SSLCertVerificationError)), None)
    if untrusted:
        return ForeignNodeError(
            f"{server}: shows a certificate that is not this cluster's ({untrusted.verify_message}); "
            "another cluster answers there, or the kubeconfig is of an older one"
        )
    if any(isinstance(c, ConnectionRefusedError) for c in causes):
        return UnreachableError(f"{server}: the machine is there but refuses the connection; no API server runs there")
    if isinstance(exc, httpx2.RemoteProtocolError | httpx2.ReadError):
        return UnreachableError(f"{server}: cut the connection before it had answered")
    return UnreachableError(f"{server}: cannot be reached ({exc})")


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _parsed(answer: httpx2.Response, server: str) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProtocolError(f"{server}: answered with something that is not a Kubernetes object")
    return found


def _is_status(answer: httpx2.Response) -> bool:
    return '"kind":"Status"' in answer.text.replace(" ", "")[:4096]


def _is_no_kind(answer: httpx2.Response) -> bool:
    """The API server's words for a group of the API that nobody has installed; only there it says no Status."""
    return answer.url.path.startswith("/apis/") and answer.text.strip() == "404 page not found"


def _words(answer: httpx2.Response) -> str:
    """A Status object's message with its causes, on one line."""
    try:
        status = answer.json()
        causes = "; ".join(cause["message"] for cause in (status.get("details") or {}).get("causes", ()))
        text = f"{status['message']} {causes}".strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.text
    return " ".join(text.split())[:300]
