"""The part of Rancher's API that registers a cluster: https://ranchermanager.docs.rancher.com/api/v3-rancher-api-guide."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2

from providers import pace
from providers.deadline import Deadline
from providers.errors import (
    AuthError,
    DeadlineError,
    HomelabError,
    ProtocolError,
    RefusedError,
    UnreachableError,
    UserError,
)

REQUEST_S = 20.0
MARK = "homelab.ca"  # annotation: the pin of the registered cluster's CA, by which it is known again


@dataclass(frozen=True)
class Registered:
    """A cluster as Rancher knows it.

    Attributes:
        state: `pending` until its agent has come, then `active`.
        ca: the pin of its CA, "" for one that this program did not register.
        words: what Rancher says of the state.
    """

    id: str
    name: str
    state: str
    ca: str
    words: str = ""

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> Registered:
        """From an object of the API."""
        return cls(
            id=str(item["id"]),
            name=str(item["name"]),
            state=str(item.get("state") or ""),
            ca=str((item.get("annotations") or {}).get(MARK) or ""),
            words=str(item.get("transitioningMessage") or ""),
        )


class Rancher:
    """A client of one Rancher server.

    Args:
        url: the server's base URL.
        token: a bearer token. A secret.
        ca: PEM of its certificate's CA; "" where this machine trusts it anyway.

    Every method raises UnreachableError, AuthError, RefusedError or ProtocolError, all of which name the server.
    """

    def __init__(self, url: str, token: str, ca: str = "") -> None:
        self.url = url
        # No proxy from the environment: the lab is on this network.
        self._http = httpx2.Client(
            base_url=url, verify=_trust(url, ca), timeout=REQUEST_S, trust_env=False,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def find(self, name: str) -> Registered | None:
        """A cluster by its name there."""
        listed = self._call("GET", "/v3/clusters", params={"name": name})
        with self._shaped():
            found = [Registered.parse(item) for item in (listed or {})["data"] if item.get("name") == name]
        return found[0] if found else None

    def get(self, id_: str) -> Registered | None:
        """A cluster by its id; None when it is gone."""
        item = self._call("GET", f"/v3/clusters/{id_}", gone=(403, 404))
        with self._shaped():
            return Registered.parse(item) if item is not None else None

    def create(self, name: str, description: str, ca: str) -> Registered:
        """An entry for a cluster whose agent will come."""
        body = {
            "type": "cluster",
            "name": name,
            "description": description,
            "annotations": {MARK: ca, "rancher.io/imported-cluster-version-management": "false"},
        }
        item = self._call("POST", "/v3/clusters", body=body)
        with self._shaped():
            return Registered.parse(item or {})

    def manifest(self, id_: str, deadline: Deadline) -> str:
        """The objects that bring the agent into the cluster, as YAML. A secret: they hold its credentials.

        Raises:
            DeadlineError: Rancher made no URL for them in time.
        """
        url = deadline.poll(lambda: self._manifest_url(id_), f"{self.url}: manifest of {id_}", pace.interval(2))
        with self._translated("the import manifest"):
            # The URL is all that is needed: our own token stays here, wherever it leads.
            answer = self._http.get(url, headers={"Authorization": ""})
        if not answer.is_success:
            raise ProtocolError(f"{self.url}: the import manifest of {id_} is not to be had ({answer.status_code})")
        return answer.text

    def _manifest_url(self, id_: str) -> str | None:
        listed = self._call("GET", "/v3/clusterregistrationtokens", params={"clusterId": id_})
        with self._shaped():
            items = [item for item in (listed or {})["data"] if item.get("clusterId") == id_]
        if not items:
            body = {"type": "clusterRegistrationToken", "clusterId": id_}
            self._call("POST", "/v3/clusterregistrationtokens", body=body, gone=(409,))
            return None
        return next((str(item["manifestUrl"]) for item in items if item.get("manifestUrl")), None)

    def remove(self, id_: str, deadline: Deadline) -> None:
        """Take a cluster out and wait until Rancher has let go of it; one that is gone is fine.

        Raises:
            DeadlineError: it is still there; its agent can't be reached to clean up.
        """
        self._call("DELETE", f"/v3/clusters/{id_}", gone=(403, 404))
        try:
            deadline.poll(lambda: True if self.get(id_) is None else None, f"{self.url}: {id_}", pace.interval(2))
        except DeadlineError as error:
            raise DeadlineError(
                f"{error} is still being removed: Rancher waits for the cluster's agent. If the cluster is gone for "
                f"good, empty metadata.finalizers of clusters.management.cattle.io/{id_} on Rancher's own cluster"
            ) from None

    # -- the wire -----------------------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        gone: tuple[int, ...] = (),
    ) -> dict[str, Any] | None:
        with self._translated(f"{method} {path}"):
            answer = self._http.request(method, path, params=params, json=body)
        if answer.status_code in gone:
            return None
        if answer.status_code == httpx2.codes.UNAUTHORIZED:
            raise AuthError(f"{self.url}: refuses the token; make a new one there, then set it with `homelab secret`")
        if not answer.is_success:
            raise self._refusal(method, path, answer)
        try:
            found = answer.json() if answer.content else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ProtocolError(f"{self.url}: {method} {path}: this is no Rancher")
        return found

    def _refusal(self, method: str, path: str, answer: httpx2.Response) -> HomelabError:
        try:
            words = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            words = answer.text[:200]
        text = f"{self.url}: {method} {path}: {answer.status_code}: {' '.join(words.split())}"
        return UnreachableError(text) if answer.status_code >= 500 else RefusedError(text)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """No exception of the HTTP library leaves this module; none of them names a URL, which may be a secret."""
        try:
            yield
        except httpx2.TransportError as error:
            reason = "its certificate is not trusted; write rancher.ca" if _untrusted(error) else type(error).__name__
            raise UnreachableError(f"{self.url}: {what}: no answer ({reason})") from None

    @contextmanager
    def _shaped(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, AttributeError):
            raise ProtocolError(f"{self.url}: answers as no Rancher does") from None


def _trust(url: str, ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca or None)
    except ssl.SSLError:
        raise UserError(f"{url}: rancher.ca is not a certificate in PEM") from None


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
