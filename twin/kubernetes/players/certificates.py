"""cert-manager: issuers `selfSigned` and `ca` become Ready, and their Certificates get real ones (facts 6)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.pki import Wish, b64, issue, names
from twin.kubernetes.players.webhooks import decoded
from twin.kubernetes.players.world import Kind, World, at, key
from twin.talos.pki import BadPem, Pair, load_certificate

_SECOND = {"h": 3600, "m": 60, "s": 1}
_RESOURCES = "--cluster-resource-namespace="


@dataclass(frozen=True)
class Signer:
    """A ready issuer: without a pair its certificates sign themselves."""

    pair: Pair | None
    root: bytes


async def play(world: World) -> None:
    """One look at all issuers, then at all certificates."""
    manager = k.deployment(world, "cert-manager")
    if manager is None:
        return
    given = [word.removeprefix(_RESOURCES) for word in k.arguments(manager) if word.startswith(_RESOURCES)]
    own = manager["metadata"]["namespace"]
    home = given[0] if given and "$" not in given[0] else own
    for kind in (k.CLUSTER_ISSUER, k.ISSUER):
        for issuer in world.all(kind):
            await _judge(world, kind, issuer, home)
    for certificate in world.all(k.CERTIFICATE):
        if not at(certificate, "metadata", "deletionTimestamp"):
            await _certify(world, certificate, home)


async def _judge(world: World, kind: Kind, issuer: Object, home: str) -> None:
    signer = _signer(world, issuer, home)
    reason = "KeyPairVerified" if signer and signer.pair else "IsReady" if signer else "ErrGetKeyPair"
    await _conclude(world, kind, issuer, reason, ready=signer is not None)


async def _certify(world: World, certificate: Object, home: str) -> None:
    signer = _signer(world, _issuer(world, certificate), home)
    spec, namespace = certificate["spec"], key(certificate)[0]
    secret = world.get(k.SECRET, spec["secretName"], namespace)
    wish = _wish(spec)
    if not _fulfils(secret, certificate, wish):
        if signer is None:
            await _conclude(world, k.CERTIFICATE, certificate, "DoesNotExist", ready=False)
            return
        secret = await _issue(world, certificate, secret, wish, signer)
    leaf = load_certificate(decoded(secret, "tls.crt"))
    times = {
        "notBefore": _text(leaf.not_valid_before_utc),
        "notAfter": _text(leaf.not_valid_after_utc),
        "renewalTime": _text(_renewal(spec, leaf)),
    }
    await _conclude(world, k.CERTIFICATE, certificate, "Ready", ready=True, more=times)


async def _issue(world: World, certificate: Object, secret: Object | None, wish: Wish, signer: Signer) -> Object:
    pair = issue(wish, signer.pair)
    spec, namespace = certificate["spec"], key(certificate)[0]
    template = spec.get("secretTemplate") or {}
    annotations = {**(template.get("annotations") or {}), **_about(certificate)}
    meta = {"annotations": annotations, "labels": template.get("labels") or {}}
    data = {"tls.crt": b64(pair.crt), "tls.key": b64(pair.key), "ca.crt": b64(signer.root or pair.crt)}
    if secret is not None:
        return await world.patch(k.SECRET, secret, {"metadata": meta, "data": data})
    about = {"name": spec["secretName"], "namespace": namespace, **meta}
    return await world.create(k.SECRET, {"metadata": about, "type": "kubernetes.io/tls", "data": data})


def _signer(world: World, issuer: Object | None, home: str) -> Signer | None:
    spec = (issuer or {}).get("spec") or {}
    if issuer is None or "selfSigned" in spec:
        return Signer(None, b"") if issuer else None
    name = at(spec, "ca", "secretName")
    secret = world.get(k.SECRET, name, key(issuer)[0] or home) if name else None
    crt, private = decoded(secret, "tls.crt"), decoded(secret, "tls.key")
    try:
        load_certificate(crt)
    except BadPem:
        return None
    return Signer(Pair(crt, private), decoded(secret, "ca.crt") or crt) if private else None


def _issuer(world: World, certificate: Object) -> Object | None:
    reference = certificate["spec"]["issuerRef"]
    if reference.get("kind") == "ClusterIssuer":
        return world.get(k.CLUSTER_ISSUER, reference["name"])
    return world.get(k.ISSUER, reference["name"], key(certificate)[0])


def _wish(spec: Mapping[str, Object]) -> Wish:
    private = spec.get("privateKey") or {}
    return Wish(
        common_name=str(spec.get("commonName") or ""),
        names=(*spec.get("dnsNames", ()), *spec.get("ipAddresses", ())),
        organizations=tuple((spec.get("subject") or {}).get("organizations") or ()),
        authority=bool(spec.get("isCA")),
        valid=_duration(str(spec.get("duration") or "2160h")),
        algorithm=str(private.get("algorithm") or "RSA"),
        size=int(private.get("size") or 0),
        usages=tuple(str(usage) for usage in spec.get("usages") or ()),
    )


def _fulfils(secret: Object | None, certificate: Object, wish: Wish) -> bool:
    """Whether the Secret has what is wished for, from the issuer that is asked, and not too old."""
    try:
        leaf = load_certificate(decoded(secret, "tls.crt"))
    except BadPem:
        return False
    annotations = at(secret, "metadata", "annotations") or {}
    same = all(annotations.get(name) == value for name, value in _about(certificate).items())
    right = set(names(leaf)) == set(wish.names) and bool(decoded(secret, "tls.key"))
    return same and right and datetime.now(UTC) < _renewal(certificate["spec"], leaf)


def _renewal(spec: Mapping[str, Object], leaf: x509.Certificate) -> datetime:
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    before = _duration(str(spec["renewBefore"])) if spec.get("renewBefore") else lifetime / 3
    return leaf.not_valid_after_utc - before


def _about(certificate: Object) -> dict[str, str]:
    reference = certificate["spec"]["issuerRef"]
    return {
        "cert-manager.io/certificate-name": certificate["metadata"]["name"],
        "cert-manager.io/issuer-name": reference["name"],
        "cert-manager.io/issuer-kind": reference.get("kind") or "Issuer",
        "cert-manager.io/common-name": str(certificate["spec"].get("commonName") or ""),
    }


async def _conclude(
    world: World, kind: Kind, found: Object, reason: str, *, ready: bool, more: Mapping[str, str] | None = None
) -> None:
    generation = found["metadata"].get("generation", 1)
    wanted = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "reason": reason,
        "observedGeneration": generation,
    }
    before: Object = next((c for c in at(found, "status", "conditions") or [] if c["type"] == "Ready"), {})
    told = all((found.get("status") or {}).get(field) == value for field, value in (more or {}).items())
    if told and all(before.get(field) == value for field, value in wanted.items()):
        return
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    since = before.get("lastTransitionTime", moment) if before.get("status") == wanted["status"] else moment
    status = {"conditions": [{**wanted, "lastTransitionTime": since, "message": ""}], **(more or {})}
    await world.status(kind, found, status)


def _duration(text: str) -> timedelta:
    """A duration as Go writes it."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|m|s)", text)
    return timedelta(seconds=sum(float(number) * _SECOND[unit] for number, unit in parts))


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
