"""The administrator's way to a cluster's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.k3s import certificates, files, node
from providers.kubernetes.client import Kube
from providers.ssh import reach

API_S = 300.0
ONE_AFTER_THE_OTHER_S = 3600.0


def kubeconfig(props: Props, report: Reporter) -> str:
    """From any server that runs, for the endpoint; once the API answers there.

    Raises:
        UnreachableError: no server gives one.
        DeadlineError: nothing answers at the endpoint.
    """
    found = _read(props)
    with Kube(found) as kube:
        report.progress(f"waiting for {kube.server}")
        deadline = Deadline(pace.limit(API_S))
        kube.patiently(lambda: kube.version() or None, f"{kube.server}: the API", deadline)
    return found


def renewed(props: Props, report: Reporter) -> str:
    """Another one, before the stored one ends: a server that wrote its own as long ago is started anew first.

    Raises:
        UnreachableError, DeadlineError, RefusedError: as `kubeconfig`, and a server that does not start.
    """
    lock = f"servers of {props['cluster']}"
    with locks.held(lock, "renewing certificates", Deadline(ONE_AFTER_THE_OTHER_S), report.progress):
        for login in props["servers"].values():
            _renew(login, report)
    return kubeconfig(props, report)


def _renew(login: Mapping[str, Any], report: Reporter) -> None:
    """k3s renews as it starts. A server that does not answer holds nobody up."""
    try:
        with reach.opened(login, reach.LOOK_S) as host:
            file = host.read(files.KUBECONFIG)
            if file is not None and certificates.is_ending(file.decode()):
                node.restart(host, files.unit("controlplane"), report)
                report.info(f"{host.target.name}: its certificates are renewed")
    except UnreachableError as error:
        report.warn(f"{error}; its certificates were not renewed")


def _read(props: Props) -> str:
    last = f"{props['cluster']}: has no server"
    for login in props["servers"].values():
        try:
            with reach.opened(login, reach.LOOK_S) as host:
                file = host.read(files.KUBECONFIG)
        except HomelabError as error:
            last = str(error)
            continue
        if file is not None:
            return files.kubeconfig(file, str(props["cluster"]), str(props["endpoint"]))
        last = f"{host.target.place}: has no {files.KUBECONFIG}; look with `systemctl status k3s` on it"
    raise UnreachableError(last)
