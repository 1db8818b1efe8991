"""Makes a host a server or an agent of its cluster. Looks before every step, so a run that was killed is run again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from providers import locks, pace
from providers.deadline import Deadline
from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import DeadlineError, HomelabError, RefusedError, UnreachableError
from providers.k3s import certificates, files, install, remains
from providers.kubernetes.client import Kube
from providers.ssh import reach
from providers.ssh.client import Host

START_S = 600.0
DRAIN_S = 300.0
READY_S = 600.0
GONE_S = 45.0
ONE_AFTER_THE_OTHER_S = 3600.0
TOKEN_LIFE = "15m0s"  # noqa: S105  # how long a token for one join lives


def token_of(props: Mapping[str, Any]) -> str | None:
    """The token of a cluster that its hosts run already, or None where none of them has one.

    Raises:
        UnreachableError: a server does not answer, so nobody knows.
    """
    for login in props["servers"].values():
        with reach.opened(login) as host:
            stored = (host.read(files.SERVER_TOKEN) or b"").decode().strip()
            marked = (host.read(files.MARK) or b"").decode()
        # Without our mark it may be anybody's: the host's own resource refuses it later, with words.
        token = stored.rpartition(":")[2]
        if token and marked == files.mark(str(props["cluster"]), token):
            return token
    return None


def ensure(props: Props, report: Reporter, *, acknowledged: bool) -> str:
    """Have the host run its k3s, as its resource says.

    Returns:
        The day when the first of its certificates ends.

    Raises:
        ForeignNodeError: another cluster's remains are on it, and nobody said that they may go.
        UnreachableError, DeadlineError, RefusedError: as each step.
    """
    with _turn(props, report), reach.opened(props) as host:
        mark = files.mark(str(props["cluster"]), str(props["token"]))
        found = remains.look(host, mark, str(props["token"]))
        remains.refuse(host, found, acknowledged=acknowledged)
        if found.found:
            report.info(f"removes {', '.join(found.found)}")
            remains.remove(host)
        host.write(files.MARK, mark.encode())
        _install(host, props, report)
        return certificates.first_end(host)


@contextlib.contextmanager
def _turn(props: Props, report: Reporter) -> Iterator[None]:
    """Servers go one after the other: who bootstraps is read from all of them, and etcd takes one at a time."""
    lock = f"servers of {props['cluster']}" if props["role"] == "controlplane" else f"host {props['host']}"
    with locks.held(lock, f"k3s on {props['host']}", Deadline(ONE_AFTER_THE_OTHER_S), report.progress):
        yield


def _install(host: Host, props: Props, report: Reporter) -> None:
    role, before = str(props["role"]), install.version(host)
    unit = files.unit(role)
    wanted = str(props["version"])
    running = host.run(f"systemctl is-active {unit}", check=False).out.strip() == "active"
    upgrading = bool(before) and before != wanted and running
    if upgrading:
        _refuse_jump(host, before, wanted)
    report.progress(f"k3s {wanted}")
    changed = install.binary(host, wanted, str(props["releases"]))
    changed |= install.service(host, role, wanted, str(props["scripts"]))
    changed |= _configure(host, props, report)
    if host.run(f"systemctl is-enabled {unit}", check=False).out.strip() != "enabled":
        host.run(f"systemctl enable {unit}")
    if running and not changed and not certificates.is_due(certificates.first_end(host)):
        return
    if upgrading:
        with _away(host, props, report):
            restart(host, unit, report)
    else:
        restart(host, unit, report)


def _configure(host: Host, props: Props, report: Reporter) -> bool:
    """Whether a file of it changed."""
    address = host.target.address
    if props["role"] != "controlplane":
        changed = _join_token(host, props, report)
        return host.write(files.CONFIG, files.text(files.agent(props, address)), 0o600) | changed
    origin, token = _origin(host, props, report)
    changed = host.write(files.TOKEN, f"{token}\n".encode(), 0o600)
    if props["vip"]:
        manifest = files.kube_vip(str(props["vip"]), int(props["api_port"]))
        changed |= host.write(files.MANIFEST, manifest, 0o600)
    return host.write(files.CONFIG, files.text(files.server(props, address, origin)), 0o600) | changed


def _origin(host: Host, props: Props, report: Reporter) -> tuple[dict[str, Any], str]:
    """How a server comes in, and the token that it takes: there is no first one, so all are asked who has the cluster.

    Raises:
        UnreachableError: one does not answer, and might have it.
    """
    kept = (host.read(files.TOKEN) or b"").decode().strip()
    if host.read(files.TLS) is not None:
        origin = files.origin_of(host.read(files.CONFIG))
        if props["etcd"] and not origin:
            origin = {"cluster-init": True}  # SQLite becomes etcd as it starts
        return origin, kept or str(props["token"])
    full = _full_token(host, props)
    if full is not None:
        report.info("joins the servers that are there")
        return {"server": props["registration"]}, full
    report.info("begins the cluster: no other server has it")
    return ({"cluster-init": True} if props["etcd"] else {}), str(props["token"])


def _full_token(host: Host, props: Props) -> str | None:
    """The token with the digest of the cluster's authority, from any other server that has the cluster."""
    unknown: list[str] = []
    for name, login in props["servers"].items():
        if name == host.target.name:
            continue
        try:
            with reach.opened(login, reach.LOOK_S) as other:
                stored = (other.read(files.SERVER_TOKEN) or b"").decode().strip()
        except UnreachableError:
            unknown.append(name)
            continue
        if stored.rpartition(":")[2] == str(props["token"]):
            return stored
    if unknown:
        raise UnreachableError(
            f"{host.target.place}: {' and '.join(unknown)} gave no answer and may have the cluster already; bring back "
            f"{' and '.join(unknown)}, or set disabled: true for it, so that no second cluster begins"
        )
    return None


def _join_token(host: Host, props: Props, report: Reporter) -> bool:
    """A token of a few minutes for an agent that is not in yet: afterwards its certificate will do."""
    if host.read(f"{files.DATA}/agent/client-kubelet.crt") is not None:
        return False
    with any_server(props) as server:
        forget_stale(server, props, report)
        made = server.run(f"{files.BINARY} token create --ttl {TOKEN_LIFE} --description {props['host']}", secret=True)
    return host.write(files.TOKEN, f"{made.out.strip()}\n".encode(), 0o600)


@contextlib.contextmanager
def any_server(props: Mapping[str, Any], timeout_s: float = 60.0) -> Iterator[Host]:
    """A server that runs. Raises the last one's error where none does."""
    last: HomelabError | None = None
    for login in props["servers"].values():
        try:
            with reach.opened(login, timeout_s) as host:
                if host.run("systemctl is-active k3s", check=False).out.strip() == "active":
                    yield host
                    return
                last = RefusedError(f"{host.target.place}: its k3s does not run; look with `systemctl status k3s`")
        except UnreachableError as error:
            last = error
    raise last or RefusedError(f"{props['cluster']}: has no servers")


def forget_stale(server: Host, props: Mapping[str, Any], report: Reporter) -> None:
    """A Node of this name from before the host was set up anew keeps its password, and would keep the host out.

    Raises:
        RefusedError: that Node is Ready: another host has the name.
    """
    name, deadline = str(props["host"]), Deadline(pace.limit(120))
    with Kube(admin(server, props)) as kube:
        view = kube.node(name)
        if view is not None and view.ready:
            raise RefusedError(
                f"{name}: a Node of this name is Ready, so another host has it; take that one out first, or wait a "
                "minute if its host was switched off just now"
            )
        if view is not None:
            kube.delete_node(name, deadline)
            report.info("its Node from before it was set up anew was deleted")
        kube.remove(f"/api/v1/namespaces/kube-system/secrets/{name}.node-password.k3s", deadline)


def admin(server: Host, props: Mapping[str, Any]) -> str:
    """An administrator's kubeconfig, straight to one server."""
    given = server.read(files.KUBECONFIG)
    if given is None:
        raise RefusedError(f"{server.target.place}: has no {files.KUBECONFIG}; look with `systemctl status k3s`")
    return files.kubeconfig(given, str(props["cluster"]), f"https://{server.target.address}:{int(props['api_port'])}")


def restart(host: Host, unit: str, report: Reporter) -> None:
    """Start it anew and wait until it says that it is ready."""
    report.progress(f"starts {unit}")
    host.run(f"systemctl --no-block restart {unit}")
    last = "nothing"

    def started() -> bool | None:
        nonlocal last
        last = host.run(f"systemctl is-active {unit}", check=False).out.strip()
        if last == "failed":
            raise RefusedError(f"{host.target.place}: {unit} failed: {_log(host, unit)}")
        return True if last == "active" else None

    try:
        Deadline(pace.limit(START_S)).poll(started, host.target.place, pace.interval(2))
    except DeadlineError:
        raise DeadlineError(
            f"{host.target.place}: {unit} is {last} after {pace.limit(START_S):.0f} s: {_log(host, unit)}; look with "
            f"`journalctl -u {unit}` on it"
        ) from None


def _log(host: Host, unit: str) -> str:
    said = host.run(f"journalctl -u {unit} -n 3 --no-pager -o cat", check=False).out.strip()
    return said.replace("\n", " / ") or "it said nothing"


@contextlib.contextmanager
def _away(host: Host, props: Props, report: Reporter) -> Iterator[None]:
    """Pods leave before an upgrade and may come back after it; one host at a time in the whole cluster."""
    name = host.target.name
    lock = f"upgrade of {props['cluster']}"
    with locks.held(lock, f"upgrading {name}", Deadline(ONE_AFTER_THE_OTHER_S), report.progress):
        with any_server(props) as server:
            access = admin(server, props)
        with Kube(access) as kube:
            drained = kube.drain(name, Deadline(pace.limit(DRAIN_S)), report.progress)
            if not drained.complete:
                report.warn(f"{name}: upgraded with pods on it: {', '.join(str(pod) for pod in drained.left)}")
        yield
        with Kube(access) as kube:
            kube.patiently(lambda: _new(kube, name, str(props["version"])), f"{name}: Ready with its new version",
                           Deadline(pace.limit(READY_S)))  # fmt: skip
            kube.cordon(name, Deadline(pace.limit(120)), unschedulable=False)


def _new(kube: Kube, name: str, version: str) -> bool | None:
    view = kube.node(name)
    return True if view is not None and view.ready and view.kubelet == version else None


def _refuse_jump(host: Host, before: str, wanted: str) -> None:
    old, new = _minor(before), _minor(wanted)
    if new < old or new > old + 1:
        raise RefusedError(
            f"{host.target.place}: runs {before}; {wanted} is {'older' if new < old else 'more than one minor later'}; "
            f"go minor by minor: v1.{old + 1 if new > old else old}.x is next"
        )


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def remove(props: Props, report: Reporter) -> None:
    """Undo what `ensure` did, on a host of this cluster and on no other. A host that is gone is let go."""
    try:
        with reach.opened(props, GONE_S) as host:
            mark = files.mark(str(props["cluster"]), str(props["token"]))
            if (host.read(files.MARK) or b"").decode() != mark:
                report.info("has nothing of this cluster")
                return
            remains.remove(host)
    except UnreachableError as error:
        report.warn(f"{error}; what is on it stays, and is refused when it comes back")
