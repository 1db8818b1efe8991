"""Proof between the steps of a rotation: who is let in by every node, and who no longer is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from providers import pace
from providers.deadline import Deadline
from providers.errors import AuthError, HomelabError, RefusedError, UnreachableError
from providers.kubernetes.client import Kube
from providers.talos.client import Mode, Talos, probe
from providers.talos.pki import CertAndKey, ClientCert, new_client
from providers.talos.rotation import Rotation
from providers.talos.secrets import SecretsBundle, kubeconfig
from providers.talos.wire import OPERATION_TTL

PROVEN_S = 180.0
LOOK_S = 10.0
_TRIES = 3
SAY = Callable[[str], None]


@dataclass(frozen=True)
class Nodes:
    """A cluster's nodes, name to address, and its API's port."""

    control_planes: Mapping[str, str]
    workers: Mapping[str, str]
    vip: str
    port: int

    @property
    def every(self) -> dict[str, str]:
        """Control planes first."""
        return {**self.control_planes, **self.workers}

    @property
    def servers(self) -> dict[str, str]:
        """Each API server's URL, and the one that people use."""
        own = {name: f"https://{address}:{self.port}" for name, address in self.control_planes.items()}
        return {**own, "the VIP": f"https://{self.vip}:{self.port}"}


@dataclass(frozen=True)
class Client:
    """Somebody with a certificate of `signer` who trusts servers of `trusted`, and what becomes of them."""

    who: str
    signer: CertAndKey
    trusted: str
    let_in: bool = True


def clients(field: str, bundle: SecretsBundle, rotation: Rotation) -> list[Client]:
    """Who must, and who must not, be let in after the present step of `os` or `kubernetes`.

    Before the new authority signs, its clients still trust servers of the old one. Afterwards those who trust the new
    one alone get in, and so do the holders of old certificates until the last step. Without the old key (the state
    was lost on the way) nobody can be sent who must be turned away.
    """
    now: CertAndKey = getattr(bundle, field)
    if rotation.step == 1:
        old = Client("the present client", now, now.signing)
        return [old, Client("the new client", rotation.coming, now.signing)] if rotation.coming.key else [old]
    new = Client("the new client", now, now.signing)
    if not rotation.going.key:
        return [new]
    return [new, Client("the old client", rotation.going, now.signing, let_in=rotation.step == 2)]


def prove_talos(nodes: Nodes, found: list[Client], say: SAY) -> None:
    """Each client at each node's Talos API.

    Raises:
        DeadlineError: one who must be let in is not.
        RefusedError: one who must not be is.
    """
    for client in found:
        cert = _certificate(client, ["os:admin"])
        for name, address in nodes.every.items():
            _prove(client, f"{name} ({address})", partial(_version, address, cert))
        say(_told(client, f"the Talos API of {len(nodes.every)} nodes"))


def prove_kubernetes(nodes: Nodes, found: list[Client], say: SAY) -> None:
    """Each client at each API server, and at the VIP; those who are let in see every node Ready.

    Raises:
        DeadlineError: one who must be let in is not, or a node is not Ready.
        RefusedError: one who must not be is let in.
    """
    for client in found:
        cert = _certificate(client, ["system:masters"], "admin")
        for name, server in nodes.servers.items():
            access = kubeconfig("rotation", server, cert)
            _prove(client, f"{name} ({server})", partial(_all_ready, access, nodes.every))
        say(_told(client, f"{len(nodes.servers) - 1} API servers and the VIP"))


def all_ready(nodes: Nodes, bundle: SecretsBundle) -> None:
    """Every API server answers the present client, and every node is Ready.

    Raises:
        DeadlineError: it is not so; says what was seen last.
    """
    prove_kubernetes(nodes, [Client("the client", bundle.kubernetes, bundle.kubernetes.crt)], lambda _: None)


def _certificate(client: Client, groups: list[str], name: str = "") -> ClientCert:
    signing = CertAndKey(client.signer.signing, client.signer.key)
    made = new_client(signing, groups, name, OPERATION_TTL)
    return ClientCert(client.trusted, made.crt, made.key)


def _prove(client: Client, where: str, call: Callable[[], None]) -> None:
    """Call until the answer is the one that it must be: a node may be a moment behind its config."""
    last = "let in"

    def as_wished() -> bool | None:
        nonlocal last
        try:
            call()
        except AuthError as error:
            last = str(error)
            return None if client.let_in else True
        except HomelabError as error:
            last = str(error)
            return None
        return True if client.let_in else None

    what = f"{where}: {client.who} is {'let in' if client.let_in else 'turned away'}"
    try:
        Deadline(pace.limit(PROVEN_S)).poll(as_wished, what, pace.interval(2))
    except HomelabError as error:
        kind = type(error) if client.let_in else RefusedError
        raise kind(f"{error}; last seen: {last}") from None


def _version(address: str, cert: ClientCert) -> None:
    """Ask for something.

    With TLS 1.3 a server refuses a certificate after the handshake, and all that a client sees is a connection that
    ends. So one that ends again and again, at a node that answers, is a refusal.
    """
    for _ in range(_TRIES):
        try:
            with Talos.secure(address, cert) as talos:
                talos.version(timeout_s=LOOK_S)
            return
        except UnreachableError:
            if probe(address, cert, timeout_s=LOOK_S) is not Mode.OURS:
                raise
    raise AuthError(f"{address}: hangs up on this certificate")


def _all_ready(access: str, wished: Mapping[str, str]) -> None:
    with Kube(access, timeout_s=LOOK_S) as kube:
        ready = {view.name for view in kube.nodes() if view.ready}
    missing = sorted(set(wished) - ready)
    if missing:
        raise HomelabError(f"not Ready: {', '.join(missing)}")


def _told(client: Client, where: str) -> str:
    return f"{client.who}: {'let in by' if client.let_in else 'turned away by'} {where}"
