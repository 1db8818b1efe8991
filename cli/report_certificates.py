"""The certificates of a lab with their last days: those on this machine, in the nodes, on the boards, in the cluster.

No private key is read but with what it stands in, and none is kept.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from cli import backup, observe
from cli.observe import ANSWER_S, Lab
from cli.observe_answers import LOOK_S, at_once
from cli.report_lab import Certificate
from providers.deadline import Deadline
from providers.errors import HomelabError
from providers.kubernetes.kubeconfig import Access
from providers.talos.pki import load_certificate

UP = "homelab up renews it"
ROTATE = "homelab rotate renews it"
ITSELF = "renews itself"
LIST = "/apis/cert-manager.io/v1/certificates"

Found = Sequence[Certificate]


def certificates(lab: Lab) -> tuple[Certificate, ...]:
    """All that can be reached, asked at once; of each other one, why it can't be told."""
    asked: dict[str, Callable[[Lab], Found]] = {"files": _files, "bundle": _bundle, "api": _api, "cluster": _issued}
    for name in lab.settings.boards:
        asked[f"board {name}"] = lambda lab, name=name: [_board(lab, name)]  # type: ignore[misc]
    found = at_once(lambda call: call(lab), asked)(Deadline(LOOK_S))
    return (*_own(lab), *(certificate for key in asked for certificate in found.get(key, ())))


def read(pem: str, name: str, place: str, renewal: str) -> Certificate:
    """A certificate from its PEM text; one that is none says so."""
    try:
        return Certificate(name, place, load_certificate(pem).not_valid_after_utc, renewal)
    except HomelabError as error:
        return Certificate(name, place, None, renewal, str(error))


def _files(lab: Lab) -> Found:
    """Those of talosconfig and kubeconfig."""
    found = []
    if lab.certificate is not None:
        found += [
            read(lab.certificate.ca, "Talos CA", "talosconfig", ROTATE),
            read(lab.certificate.crt, "Talos client", "talosconfig", UP),
        ]
    return [*found, *(_kubeconfig(lab.kubeconfig) if lab.kubeconfig is not None else ())]


def _kubeconfig(text: str) -> Found:
    try:
        access = Access.parse(text)
    except HomelabError as error:
        return [Certificate("Kubernetes client", "kubeconfig", None, UP, str(error))]
    return [
        read(access.ca, "Kubernetes CA", "kubeconfig", ROTATE),
        read(access.certificate, "Kubernetes client", "kubeconfig", UP),
    ]


def _bundle(lab: Lab) -> Found:
    """The two CAs that are only in the control planes' machine configs."""
    if lab.certificate is None:
        return ()
    names = ("etcd CA", "aggregator CA")
    try:
        secrets = backup.secrets(lab)
    except HomelabError:
        note = "no control plane shows its machine config"
        return [Certificate(name, "control planes", None, ROTATE, note) for name in names]
    pems = (secrets.etcd.crt, secrets.aggregator.crt)
    return [read(pem, name, "control planes", ROTATE) for name, pem in zip(names, pems, strict=True)]


def _api(lab: Lab) -> Found:
    """What the API shows to whoever comes."""
    if lab.kubeconfig is None:
        return ()
    endpoint = lab.settings.cluster.endpoint
    return [_shown("Kubernetes API", f"https://{lab.vip}:{endpoint.port}", ITSELF)]


def _board(lab: Lab, name: str) -> Certificate:
    """A BMC's own: self-signed, for 30 days, and known by its fingerprint if at all (facts A2)."""
    board = lab.settings.boards[name]
    if urlsplit(board.url).scheme == "http":
        return Certificate(f"BMC of {name}", board.address, None, "none", "plain http", counts=False)
    found = _shown(f"BMC of {name}", board.url, "made by the BMC itself; nobody minds its end")
    return Certificate(found.name, found.place, found.until, found.renewal, found.note, counts=False)


def _shown(name: str, url: str, renewal: str) -> Certificate:
    parts = urlsplit(url)
    try:
        pem = ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=ANSWER_S)
    except (OSError, ValueError):
        return Certificate(name, parts.netloc, None, renewal, "no answer")
    return read(pem, name, parts.netloc, renewal)


def _issued(lab: Lab) -> Found:
    """What cert-manager made, the home CA among them."""
    if lab.kubeconfig is None or not lab.settings.platform.on("cert-manager"):
        return ()
    try:
        listed = observe.api(lab, lambda kube: kube.look(LIST)) or {}
    except HomelabError:
        return [Certificate("home CA", "cert-manager", None, ITSELF, "the API gives no answer")]
    return [_of_manager(item) for item in listed.get("items", ())]


def _of_manager(item: Mapping[str, Any]) -> Certificate:
    name, status = item["metadata"]["name"], item.get("status") or {}
    shown = "home CA" if item.get("spec", {}).get("isCA") else str(name)
    place = f"cert-manager, {item['metadata']['namespace']}"
    until = status.get("notAfter")
    if until is None:
        return Certificate(shown, place, None, ITSELF, "not issued yet")
    return Certificate(shown, place, datetime.fromisoformat(until), ITSELF)


def _own(lab: Lab) -> Iterator[Certificate]:
    """The one that the owner brought."""
    traefik = lab.settings.platform.traefik
    if traefik is not None and traefik.enabled and traefik.certificate.own is not None:
        yield read(traefik.certificate.own.certificate, "certificate of your own", "settings", "yours to renew")
