"""When k3s' certificates end.

k3s renews them itself, but only as it starts, and once under 120 days are left (90 before the releases of May 2025):
https://docs.k3s.io/cli/certificate
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import yaml

from providers.errors import HomelabError
from providers.k3s import files
from providers.kubeadm.certificates import is_due
from providers.talos.pki import days_left, load_certificate

if TYPE_CHECKING:
    from providers.ssh.client import Host

__all__ = ["first_end", "is_due", "is_ending"]

KUBECONFIG_BELOW_DAYS = 30
_LEAVES = (f"{files.DATA}/server/tls/client-admin.crt", f"{files.DATA}/agent/client-kubelet.crt")


def first_end(host: Host) -> str:
    """The day when the first certificate of a node ends, as in "2027-05-01"; "" where it has none yet."""
    found = [file for path in _LEAVES if (file := host.read(path)) is not None]
    days = [load_certificate(file.decode()).not_valid_after_utc.date().isoformat() for file in found]
    return min(days, default="")


def is_ending(kubeconfig: str) -> bool:
    """Whether a kubeconfig's client certificate is to be renewed now; also one that can't be read."""
    try:
        user = yaml.safe_load(kubeconfig)["users"][0]["user"]
        left = days_left(base64.b64decode(user["client-certificate-data"]).decode())
    except (HomelabError, KeyError, ValueError, TypeError, IndexError, yaml.YAMLError):
        return True
    return left < KUBECONFIG_BELOW_DAYS
