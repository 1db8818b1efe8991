"""Who this cluster is: its secrets, made once, or read back from a control plane that already runs with them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from providers.engine import Reporter
from providers.errors import ForeignNodeError, HomelabError, UnreachableError, UserError
from providers.talos import wipe
from providers.talos.client import Mode, Talos, probe
from providers.talos.pki import ClientCert
from providers.talos.secrets import SecretsBundle, read_talosconfig

PROBE_S = 3.0


@dataclass(frozen=True)
class Lab:
    """The nodes of a cluster, name to address, and where its talosconfig is kept."""

    cluster: str
    control_planes: Mapping[str, str]
    workers: Mapping[str, str]
    talosconfig: Path


def establish(lab: Lab, report: Reporter) -> SecretsBundle:
    """The cluster's secrets: read back where a node runs with them, made where none does.

    Raises:
        ForeignNodeError: a node is configured and no credential for it is at hand.
        UnreachableError: a talosconfig is at hand, but nobody answers to it.
    """
    cert = stored_certificate(lab.talosconfig)
    modes = _probe_all({**lab.control_planes, **lab.workers}, cert)
    if Mode.FOREIGN in modes.values():
        raise _no_credential(lab, [name for name, mode in modes.items() if mode is Mode.FOREIGN], cert)
    ours = [name for name in lab.control_planes if modes[name] is Mode.OURS]
    if cert is not None and ours:
        report.info(f"read back from {ours[0]}'s machine config")
        return _read_back(lab.control_planes[ours[0]], cert)
    if cert is not None and Mode.MAINTENANCE not in modes.values():
        raise UnreachableError(
            f"{lab.talosconfig} belongs to a cluster, but none of its control planes answers "
            f"({', '.join(lab.control_planes.values())}); power them on and run this again, "
            f"or delete that file to begin a new cluster"
        )
    _set_aside(lab.talosconfig, report)
    return SecretsBundle.generate()


def _set_aside(path: Path, report: Reporter) -> None:
    """A talosconfig to which nobody answers any more must not be taken for the new cluster's."""
    if path.exists():
        kept = path.with_name(path.name + ".old")
        path.replace(kept)
        report.info(f"no node belongs to {path} any more; moved to {kept.name}")


def _probe_all(nodes: Mapping[str, str], cert: ClientCert | None) -> dict[str, Mode]:
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        modes = pool.map(lambda address: probe(address, cert, timeout_s=PROBE_S), nodes.values())
        return dict(zip(nodes, modes, strict=True))


def _no_credential(lab: Lab, foreign: list[str], cert: ClientCert | None) -> ForeignNodeError:
    nodes = {**lab.control_planes, **lab.workers}
    named = ", ".join(f"{name} ({nodes[name]})" for name in foreign)
    why = "there is no talosconfig for them here" if cert is None else f"{lab.talosconfig} is not theirs"
    return ForeignNodeError(
        f"{named}: already configured, and {why}; nothing was touched. If this cluster is yours, put its talosconfig "
        f"to {lab.talosconfig} and run this again: it is then taken over as it is. To give it up, wipe these nodes "
        f"with `{wipe.command()}`"
    )


def _read_back(address: str, cert: ClientCert) -> SecretsBundle:
    with Talos.secure(address, cert) as talos:
        return SecretsBundle.from_machine_config(talos.machine_config(timeout_s=30))


def stored_certificate(path: Path) -> ClientCert | None:
    """The admin certificate of a talosconfig file, or None when there is no such file.

    Raises:
        UserError: the file can't be read as a talosconfig.
    """
    if not path.exists():
        return None
    try:
        return read_talosconfig(path.read_text(encoding="utf-8"))
    except (OSError, HomelabError) as error:
        raise UserError(f"{path}: not a talosconfig ({error}); mend or delete it") from error


def given_another(lab: Lab, bundle: SecretsBundle) -> bool:
    """Whether a talosconfig of another cluster was put in place for the nodes to be taken over with.

    One from before a rotation, such as another machine's, is none: the nodes answer to the keys that are known.
    """
    if not other_cluster(lab.talosconfig, bundle):
        return False
    return Mode.OURS not in _probe_all(lab.control_planes, ClientCert(bundle.os.crt, "", "")).values()


def other_cluster(path: Path, bundle: SecretsBundle) -> bool:
    """Whether the talosconfig at `path` belongs to another cluster than `bundle`."""
    try:
        cert = stored_certificate(path)
    except HomelabError:
        return False
    return cert is not None and not _certificates(cert.ca) & _certificates(bundle.os.crt)


def _certificates(pem: str) -> set[str]:
    """The certificates of a text, each on one line: an authority that is being exchanged has two."""
    return {"".join(found.split()) for found in re.findall(r"-----BEGIN[^-]+-----[^-]+-----END", pem)}


def client_certificates(talosconfig: str, kubeconfig: str) -> list[str]:
    """The client certificates (PEM) of both files."""
    user = yaml.safe_load(kubeconfig)["users"][0]["user"]
    return [read_talosconfig(talosconfig).crt, base64.b64decode(user["client-certificate-data"]).decode()]
