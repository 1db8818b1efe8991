"""Which cluster a pool's machines join, and whether it is another one than before.

Beside the Talos cluster there are others, `beside` is their name: tenants, and those of kubeadm. Each is known by that
and by its CA, as one that was made anew knows none of its nodes. The Talos cluster has no such name: the settings may
rename it and exchange its CA, and it is the same one.
"""

from __future__ import annotations

from typing import Any

from providers.dynamic import Props
from providers.errors import UserError
from providers.kubernetes.kubeconfig import Access


def is_another(olds: Props, news: Props) -> bool:
    """Whether machines go from one cluster to another."""
    if olds.get("beside") != news.get("beside"):
        return True
    if not news.get("beside"):
        return False
    before, now = _access(olds.get("kubeconfig")), _access(news.get("kubeconfig"))
    return bool(before and now and before.ca != now.ca)


def is_elsewhere(olds: Props, news: Props) -> bool:
    """Whether a cluster's API is at another URL, or known by another CA; a kubeconfig that isn't known yet says no."""
    before, now = _access(olds.get("kubeconfig")), _access(news.get("kubeconfig"))
    return bool(before and now and (before.server, before.ca) != (now.server, now.ca))


def _access(kubeconfig: Any) -> Access | None:
    """What a kubeconfig says, None for one that is unknown in a preview or can't be read."""
    try:
        return Access.parse(kubeconfig) if isinstance(kubeconfig, str) else None
    except UserError:
        return None
