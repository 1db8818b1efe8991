"""When a control plane's certificates end, and new ones before they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from providers.errors import ProtocolError
from providers.kubeadm.config import CRI_SOCKET
from providers.kubeadm.host import Shell

RENEW_BELOW_DAYS = 60  # of the 365 that they are good for
STATIC_PODS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def ends(host: Shell) -> dict[str, datetime]:
    """When each certificate on a control plane ends, without the CAs.

    Raises:
        ProtocolError: kubeadm answered in another way.
    """
    return parsed(host.run("kubeadm certs check-expiration -o json", timeout_s=120).out)


def parsed(text: str) -> dict[str, datetime]:
    """The certificates in what `kubeadm certs check-expiration -o json` prints; a missing one is left out.

    Raises:
        ProtocolError: it is something else.
    """
    try:
        listed = json.loads(text)["certificates"]
        return {
            item["name"]: datetime.fromisoformat(item["expirationDate"])
            for item in listed
            if item.get("expirationDate") and not item.get("missing")
        }
    except (ValueError, KeyError, TypeError):
        raise ProtocolError(
            "`kubeadm certs check-expiration -o json` printed no list of certificates; is it another version?"
        ) from None


def first_end(found: Mapping[str, datetime]) -> str:
    """The day when the first of them ends, as in "2027-05-01"; "" where nothing is known."""
    return min(found.values()).date().isoformat() if found else ""


def is_due(day: str, now: datetime | None = None) -> bool:
    """Whether certificates that end on a day are to be renewed now; False for "", as nothing is known."""
    if not day:
        return False
    left = datetime.fromisoformat(day).replace(tzinfo=UTC) - (now or datetime.now(UTC))
    return left.days < RENEW_BELOW_DAYS


def renew(host: Shell) -> None:
    """Renew all leaf certificates of a control plane, and have what uses them start again."""
    host.run("kubeadm certs renew all", timeout_s=120)
    # The kubelet starts what is stopped. Moving the manifests away and back would lose them to a run that is killed.
    names = "|".join(STATIC_PODS)
    crictl = f"crictl --runtime-endpoint {CRI_SOCKET}"
    found = host.run(f"{crictl} ps -q --name '^({names})$'").out.split()
    if found:
        host.run(f"{crictl} stop {' '.join(found)}", timeout_s=180)
