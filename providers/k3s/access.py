"""The administrator's way to a cluster's API."""

from __future__ import annotations

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.k3s import files
from providers.kubernetes.client import Kube
from providers.ssh import reach

API_S = 300.0


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
