"""A tenant's API and the token that machines join it with, as the engine knows them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import Props, Provider, changed_keys, is_known, lazily, packed
from providers.engine import Reporter
from providers.errors import HomelabError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from providers.kubernetes import client, kubeconfig
    from providers.talos import pki
    from providers.tenant import control_plane, tokens
else:
    client = lazily("providers.kubernetes.client")
    kubeconfig = lazily("providers.kubernetes.kubeconfig")
    pki = lazily("providers.talos.pki")
    control_plane = lazily("providers.tenant.control_plane")
    tokens = lazily("providers.tenant.tokens")

READY_S = 900.0  # images of a control plane are pulled by nodes that have never seen them
LEAST_S = 120.0  # the twin's servers are real and start in real seconds
TOKEN_S = 120.0
GONE_S = 10.0  # for tidying up in a tenant that may be gone already
RENEW_BELOW_DAYS = 1  # the operator renews it on its last day


def _limit(seconds: float) -> Deadline:
    return Deadline(max(LEAST_S, pace.limit(seconds)))


class ApiProvider(Provider):
    """Waits until a tenant's API answers, and hands out its administrator's kubeconfig; there is nothing to delete."""

    inputs = ("tenant", "endpoint", "version", "replicas")
    memos = ("kubeconfig",)

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: a certificate that is about to expire, which the operator has renewed by now."""
        return DiffResult(changes=bool(changed_keys(olds, news, self.inputs)) or _expiring(olds))

    def create(self, props: Props) -> CreateResult:
        """Wait until it answers."""
        return CreateResult(str(props["tenant"]), self.stored(props, admin=_waited(props)))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Wait again: for a new version, or a new kubeconfig."""
        return UpdateResult(self.stored(news, admin=_waited(news)))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when its TenantControlPlane is; a home cluster that can't be asked is taken to have it."""
        wanted = _wanted(props)
        try:
            with client.Kube(props["kubeconfig"]) as home:
                if home.look(wanted.path) is None:
                    return ReadResult("", {})
                found = control_plane.admin(home, wanted)
        except UnreachableError:
            return ReadResult(id_, props)
        return ReadResult(id_, {**props, "admin": found or props.get("admin")})


def _wanted(props: Props) -> control_plane.Wanted:
    return control_plane.Wanted(props["tenant"], props["endpoint"], props["version"])


def _waited(props: Props) -> str:
    with client.Kube(props["kubeconfig"]) as home:
        return control_plane.wait(home, _wanted(props), _limit(READY_S), Reporter().progress)


def _expiring(olds: Props) -> bool:
    if not is_known(olds.get("admin")):
        return True
    try:
        return pki.days_left(kubeconfig.Access.parse(olds["admin"]).certificate) < RENEW_BELOW_DAYS
    except (HomelabError, KeyError, ValueError):
        return True


class TenantApi(Resource, module="tenant", name="TenantApi"):
    """A tenant's API that answers; `admin` is its administrator's kubeconfig, a secret."""

    admin: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["admin"])
        super().__init__(
            ApiProvider(), name, {**packed(props), "admin": None}, pulumi.ResourceOptions.merge(secret, opts)
        )


class TokenProvider(Provider):
    """Keeps a token that machines join a tenant with; every `up` that finds it with under 12 hours left renews it."""

    inputs = ("tenant", "endpoint")
    memos = ("admin",)

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: a token that has too little time left, by this machine's clock."""
        expires = str((olds.get("join") or {}).get("expires") or "")
        due = tokens.is_due(expires, datetime.now(UTC))
        return DiffResult(changes=bool(changed_keys(olds, news, self.inputs)) or due)

    def create(self, props: Props) -> CreateResult:
        """Make one."""
        return CreateResult(str(props["tenant"]), self.stored(props, join=_renewed(props)))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Make another one, and remove the one before."""
        return UpdateResult(self.stored(news, join=_renewed(news)))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when the tenant has forgotten it; one that can't be asked is taken to have it."""
        with contextlib.suppress(HomelabError, KeyError):
            if not tokens.is_there(props["admin"], props["join"]["token"]):
                return ReadResult("", {})
        return ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Remove what was made. The tenant goes next, most often: one that does not answer is no reason to stay."""
        with contextlib.suppress(HomelabError), client.Kube(props["admin"]) as tenant:
            tokens.remove(tenant, Deadline(GONE_S))


def _renewed(props: Props) -> dict[str, str]:
    found: dict[str, str] = tokens.renew(props["admin"], _limit(TOKEN_S), datetime.now(UTC)).as_output()
    return found


class JoinToken(Resource, module="tenant", name="JoinToken"):
    """What machines join a tenant with: `join` has token, endpoint, ca_hash and expires; a secret."""

    join: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["join"])
        super().__init__(
            TokenProvider(), name, {**packed(props), "join": None}, pulumi.ResourceOptions.merge(secret, opts)
        )


class KeptProvider(Provider):
    """Stands before the removal of a tenant: deleting it is refused unless `removable` says otherwise.

    It depends on all that a tenant has, so it goes first: one that was only forgotten in the settings stays whole.
    """

    inputs = ("tenant", "endpoint", "removable")

    def create(self, props: Props) -> CreateResult:
        """Note whether it may go."""
        return CreateResult(str(props["tenant"]), self.stored(props))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Note whether it may go."""
        return UpdateResult(self.stored(news))

    def delete(self, _id: str, props: Props) -> None:
        """Refuse, unless it may go."""
        name = props["tenant"]
        if not props.get("removable"):
            raise RefusedError(
                f"tenant {name} ({props['endpoint']}): all that is in it would be lost, and nobody said that it may; "
                f"write `removable: true` under tenants.{name}, run `homelab up`, and then take it out"
            )


class Kept(Resource, module="tenant", name="Kept"):
    """A tenant that is not removed by mistake."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(KeptProvider(), name, packed(props), opts)
