"""A tenant's control plane, as the home cluster shows it and as it answers itself.

The operator Kamaji makes it of a TenantControlPlane, and puts its administrator's kubeconfig into a Secret:
https://kamaji.clastix.io/reference/api/.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.deadline import Deadline
from providers.errors import DeadlineError, HomelabError, ProtocolError, UnreachableError
from providers.kubernetes.client import Kube, Progress, Seen
from providers.kubernetes.kubeconfig import Access

API = "/apis/kamaji.clastix.io/v1alpha1"
READY = "Ready"
KEY = "admin.conf"


@dataclass(frozen=True)
class Wanted:
    """What a tenant's control plane shall be.

    Attributes:
        name: of the tenant, of its TenantControlPlane, and of their namespace.
        endpoint: `https://ADDRESS:PORT`.
        version: of Kubernetes, such as v1.36.1.
    """

    name: str
    endpoint: str
    version: str

    @property
    def path(self) -> str:
        """Of the TenantControlPlane, in the home cluster's API."""
        return f"{API}/namespaces/{self.name}/tenantcontrolplanes/{self.name}"

    @property
    def secret(self) -> str:
        """Of the Secret with the administrator's kubeconfig."""
        return f"/api/v1/namespaces/{self.name}/secrets/{self.name}-admin-kubeconfig"


def wait(home: Kube, wanted: Wanted, deadline: Deadline, progress: Progress) -> str:
    """Wait until the control plane has its version and its API answers; gives its administrator's kubeconfig.

    Raises:
        DeadlineError: says what was missing to the end, and where to look.
        ProtocolError: the Secret holds something that is no kubeconfig.
    """
    seen = Seen(progress)

    def probe() -> str | None:
        missing, kubeconfig = observe(home, wanted)
        seen(missing or "answers")
        return None if missing else kubeconfig

    try:
        return home.patiently(probe, f"tenant {wanted.name} ({wanted.endpoint}): its API", deadline, seen)
    except DeadlineError as error:
        raise DeadlineError(
            f"{error}; look at `kubectl -n {wanted.name} describe tenantcontrolplane {wanted.name}` and "
            f"`kubectl -n {wanted.name} get pods,services,events`"
        ) from None


def observe(home: Kube, wanted: Wanted) -> tuple[str, str]:
    """What a control plane still lacks, or nothing; and its administrator's kubeconfig, as far as there is one."""
    found = home.look(wanted.path)
    if found is None:
        return "there is no TenantControlPlane of it", ""
    if lacking := _lacking(found, wanted):
        return lacking, ""
    kubeconfig = admin(home, wanted)
    if kubeconfig is None:
        return f"no Secret {wanted.name}-admin-kubeconfig yet", ""
    server = Access.parse(kubeconfig).server
    if server != wanted.endpoint:
        return f"its kubeconfig leads to {server}, not to {wanted.endpoint}", kubeconfig
    return _unanswered(kubeconfig), kubeconfig


def _lacking(found: Mapping[str, Any], wanted: Wanted) -> str:
    status = (((found.get("status") or {}).get("kubernetesResources") or {}).get("version")) or {}
    if status.get("status") != READY:
        return f"the operator says {status.get('status') or 'nothing yet'}"
    if status.get("version") != wanted.version:
        return f"its version is {status.get('version')}, not yet {wanted.version}"
    return ""


def _unanswered(kubeconfig: str) -> str:
    """Why its API does not answer its administrator, or nothing."""
    with Kube(kubeconfig) as tenant:
        try:
            if not tenant.healthy():
                return f"{tenant.server} is not ready"
            tenant.look("/api/v1/namespaces/kube-system")  # with the credentials, which readiness needs none of
        except UnreachableError as error:
            return str(error)
    return ""


def admin(home: Kube, wanted: Wanted) -> str | None:
    """The administrator's kubeconfig, or None where the operator has not written one.

    Raises:
        ProtocolError: the Secret holds something else.
    """
    found = home.look(wanted.secret)
    text = ((found or {}).get("data") or {}).get(KEY)
    if not text:
        return None
    try:
        kubeconfig = base64.b64decode(text, validate=True).decode()
        Access.parse(kubeconfig)
    except (binascii.Error, UnicodeDecodeError, HomelabError) as error:
        raise ProtocolError(
            f"tenant {wanted.name}: {wanted.name}-admin-kubeconfig: {KEY} is no kubeconfig ({type(error).__name__}); "
            f"delete that Secret, and the operator writes it anew: "
            f"`kubectl -n {wanted.name} delete secret {wanted.name}-admin-kubeconfig`"
        ) from None
    return kubeconfig
