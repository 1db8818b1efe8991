"""A new authority for etcd: every control plane boots at the same time, because members with different ones are apart.

Talos has no list of accepted authorities for etcd, and no way to restart etcd but a boot. What etcd stores stays on
its disks; only the certificates are made anew at each boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from providers import pace
from providers.deadline import Deadline
from providers.engine import Reporter
from providers.errors import HomelabError
from providers.talos import documents, leave
from providers.talos.client import Talos
from providers.talos.pki import ClientCert
from providers.talos.secrets import SecretsBundle, b64
from providers.talos.wire import admin

BACK_S = 900.0
LOOK_S = 10.0


def boot_together(control_planes: Mapping[str, str], bundle: SecretsBundle, report: Reporter) -> list[str]:
    """Reboot the control planes that run with another authority than the bundle's, and wait until etcd is whole.

    Returns:
        Who was rebooted; those who had been before are left alone, so it can be run again.

    Raises:
        UnreachableError: a control plane does not answer; nothing was rebooted then.
        DeadlineError: etcd did not come back; says what to do.
    """
    cert = admin(bundle.os)
    behind = {name: at for name, at in control_planes.items() if not _has(at, bundle, cert)}
    if behind:
        report.info(f"{', '.join(behind)}: rebooting together; the API is away until they are back")
        with ThreadPoolExecutor(len(behind)) as pool:
            list(pool.map(lambda address: _reboot(address, cert), behind.values()))
    report.progress("waiting for etcd's members")
    deadline = Deadline(pace.limit(BACK_S))
    for name, address in control_planes.items():
        what = f"{name} ({address}): back with etcd's new authority"
        deadline.poll(lambda address=address: _came_back(address, bundle, cert), what, pace.interval(3))  # type: ignore[misc]
    deadline.poll(lambda: _whole(control_planes, cert), "etcd: every member healthy", pace.interval(3))
    return list(behind)


def _has(address: str, bundle: SecretsBundle, cert: ClientCert) -> bool:
    with Talos.secure(address, cert) as talos:
        config = documents.main(documents.load(talos.machine_config(timeout_s=pace.limit(30))))
    return bool(config["cluster"]["etcd"]["ca"]["crt"] == b64(bundle.etcd.crt))


def _reboot(address: str, cert: ClientCert) -> None:
    with Talos.secure(address, cert) as talos:
        talos.reboot(timeout_s=pace.limit(30))


def _came_back(address: str, bundle: SecretsBundle, cert: ClientCert) -> bool | None:
    try:
        return _has(address, bundle, cert) or None
    except HomelabError:
        return None


def _whole(control_planes: Mapping[str, str], cert: ClientCert) -> bool | None:
    etcd = leave.observe(control_planes, cert)
    return (etcd is not None and set(control_planes) <= set(etcd.healthy)) or None
