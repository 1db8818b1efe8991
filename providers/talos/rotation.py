"""The exchange of a cluster's keys as a value, one step after the other. Pure: nothing is asked, nothing is sent.

Protocol source: https://www.talos.dev/latest/talos-guides/configuration/ca-rotation/. Up to Talos 1.13 only the
authorities of the Talos API and of the Kubernetes API may overlap with their successors (`acceptedCAs`); everything
else is one value, and is replaced in one step.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from providers.talos.pki import NOTHING, CertAndKey, new_authority, new_service_account_key
from providers.talos.secrets import SecretsBundle, new_token


@dataclass(frozen=True)
class Rotation:
    """How far a rotation has come, and the keys that no machine config holds. Secret, like the bundle.

    Attributes:
        what: the name of what is exchanged; "" when nothing is.
        step: the last step that was taken, from 1.
        coming: an authority that is accepted already and signs nothing yet.
        going: one that signs nothing any more; kept until it is proven that nobody accepts it.
        note: what a step needs to know of what it replaced, such as the id of a token that is to be deleted.
    """

    what: str = ""
    step: int = 0
    coming: CertAndKey = NOTHING
    going: CertAndKey = NOTHING
    note: str = ""

    @property
    def under_way(self) -> bool:
        """Whether one was begun and has not ended."""
        return bool(self.what)


NONE = Rotation()
Taken = tuple[SecretsBundle, Rotation]
Act = Callable[[SecretsBundle, Rotation], Taken]


@dataclass(frozen=True)
class Step:
    """One step: what is true once every node has taken it, in words, and how the keys change for it."""

    words: str
    act: Act


def _accept(field: str, organization: str, algorithm: str) -> Act:
    def act(bundle: SecretsBundle, rotation: Rotation) -> Taken:
        coming = new_authority(organization, algorithm)
        return _with(bundle, field, _pair(bundle, field).accepting(coming.crt)), _but(rotation, coming=coming)

    return act


def _sign(field: str) -> Act:
    def act(bundle: SecretsBundle, rotation: Rotation) -> Taken:
        going = _pair(bundle, field).accepting()
        changed = _with(bundle, field, rotation.coming.accepting(going.crt))
        return changed, _but(rotation, coming=NOTHING, going=going)

    return act


def _drop(field: str) -> Act:
    def act(bundle: SecretsBundle, rotation: Rotation) -> Taken:
        return _with(bundle, field, _pair(bundle, field).accepting()), rotation

    return act


def _replace(field: str, made: Callable[[], CertAndKey]) -> Act:
    def act(bundle: SecretsBundle, rotation: Rotation) -> Taken:
        return _with(bundle, field, made()), _but(rotation, going=_pair(bundle, field))

    return act


def _service_account(bundle: SecretsBundle, rotation: Rotation) -> Taken:
    return dataclasses.replace(bundle, service_account_key=new_service_account_key()), rotation


def _join_token(bundle: SecretsBundle, rotation: Rotation) -> Taken:
    changed = dataclasses.replace(bundle, bootstrap_token=new_token())
    return changed, _but(rotation, note=bundle.bootstrap_token.partition(".")[0])


def _trustd_token(bundle: SecretsBundle, rotation: Rotation) -> Taken:
    return dataclasses.replace(bundle, trustd_token=new_token()), rotation


def _overlapping(field: str, organization: str, algorithm: str, whom: str) -> tuple[Step, ...]:
    return (
        Step(f"every node also accepts the new authority {whom}", _accept(field, organization, algorithm)),
        Step("the new authority signs, the old one is still accepted", _sign(field)),
        Step("the old authority is accepted nowhere", _drop(field)),
    )


STEPS: dict[str, tuple[Step, ...]] = {
    "os-ca": _overlapping("os", "talos", "ed25519", "of the Talos API"),
    "kubernetes-ca": _overlapping("kubernetes", "kubernetes", "ecdsa", "of the Kubernetes API"),
    "aggregator-ca": (
        Step(
            "every API server uses the new authority towards aggregated APIs",
            _replace("aggregator", lambda: new_authority("", "ecdsa")),
        ),
    ),
    "service-account": (Step("tokens are signed with the new key, the old ones are worthless", _service_account),),
    "bootstrap-tokens": (
        Step("kubelets join with the new token only", _join_token),
        # The one change here that Talos takes with a reboot alone.
        Step("workers get their certificates with the new token only", _trustd_token),
    ),
    "etcd-ca": (
        Step(
            "every control plane has the new authority and uses it from its next boot on",
            _replace("etcd", lambda: new_authority("etcd", "ecdsa")),
        ),
    ),
}


def wish(what: str, step: int) -> str:
    """A step as it is asked for: `os-ca:2`. One more than the last step ends the rotation and forgets the old key."""
    return f"{what}:{step}"


def is_due(rotation: Rotation, wished: str) -> bool:
    """Whether the wished step is the next one. What was taken already, or is of another rotation, is no wish."""
    what, _, step = wished.partition(":")
    if what not in STEPS or not step.isdigit():
        return False
    return rotation.what in ("", what) and int(step) == rotation.step + 1 and int(step) <= len(STEPS[what]) + 1


def advance(bundle: SecretsBundle, rotation: Rotation, wished: str) -> Taken:
    """The keys after the wished step; as they were when it is not due."""
    if not is_due(rotation, wished):
        return bundle, rotation
    what, _, step = wished.partition(":")
    if int(step) > len(STEPS[what]):
        return bundle, NONE
    return STEPS[what][int(step) - 1].act(bundle, dataclasses.replace(rotation, what=what, step=int(step)))


def reminder(rotation: Rotation) -> str:
    """That one is under way, for runs that are not part of it."""
    taken = f"step {rotation.step} of {len(STEPS[rotation.what])} is taken"
    return f"{rotation.what} is being rotated, {taken}; `homelab rotate {rotation.what}` goes on"


def pack(rotation: Rotation) -> str:
    """As it travels in Pulumi properties; "" for none."""
    if not rotation.under_way:
        return ""
    return base64.b64encode(zlib.compress(json.dumps(dataclasses.asdict(rotation)).encode(), 9)).decode()


def unpack(packed: str | None) -> Rotation:
    """What `pack` packed."""
    if not packed:
        return NONE
    fields: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    pairs = {key: CertAndKey(**value) for key, value in fields.items() if isinstance(value, dict)}
    return Rotation(**{**fields, **pairs})


def _pair(bundle: SecretsBundle, field: str) -> CertAndKey:
    found: CertAndKey = getattr(bundle, field)
    return found


def _with(bundle: SecretsBundle, field: str, pair: CertAndKey) -> SecretsBundle:
    changes: dict[str, Any] = {field: pair}
    return dataclasses.replace(bundle, **changes)


def _but(rotation: Rotation, **changes: Any) -> Rotation:
    return dataclasses.replace(rotation, **changes)
