"""What of a host's k3s is not as its resource says: changed by hand, stopped, or gone. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from providers.dynamic import Props
from providers.engine import Reporter
from providers.k3s import certificates, files, install
from providers.ssh import reach
from providers.ssh.client import Host


def look(props: Props, report: Reporter) -> Props | None:
    """What state notes of a host: what differs, and when certificates end; None for an agent that is none any more.

    A server is never taken for gone: etcd still counts it, so it has to be taken out before it comes back.

    Raises:
        HomelabError: it does not answer.
    """
    with reach.opened(props, reach.LOOK_S) as host:
        if is_ours(host, props):
            return {"drift": words(host, props), "certificates_end": certificates.first_end(host)}
    if props["role"] != "controlplane":
        return None
    name = props["host"]
    report.warn(
        f"{name} was set up anew: take it out with `homelab destroy-target {name}`; the next `up` brings it back"
    )
    return {}


def on(props: Props) -> str:
    """What differs on a host, in words; "" where all is as it should be. Raises HomelabError."""
    with reach.opened(props, reach.LOOK_S) as host:
        return words(host, props) if is_ours(host, props) else "nothing of its cluster is on it: it was set up anew"


def is_ours(host: Host, props: Props) -> bool:
    """Whether a host still carries the mark of its cluster: one that was set up anew does not."""
    return (host.read(files.MARK) or b"").decode() == files.mark(str(props["cluster"]), str(props["token"]))


def words(host: Host, props: Props) -> str:
    """What differs, in words; "" where all is as it should be."""
    return "; ".join(_differences(host, props))


def _differences(host: Host, props: Props) -> Iterator[str]:
    unit, wanted = files.unit(str(props["role"])), str(props["version"])
    state = host.run(f"systemctl is-active {unit}", check=False).out.strip()
    if state not in ("active", "activating"):
        yield f"{unit} is {state or 'not there'}"
    if host.run(f"systemctl is-enabled {unit}", check=False).out.strip() != "enabled":
        yield f"{unit} does not start with the host"
    version = install.version(host)
    if version != wanted:
        yield f"{files.BINARY} is {version or 'not there'}, not {wanted}"
    for path, content in _files(host, props).items():
        if host.read(path) != content:
            yield f"{path} was changed"


def _files(host: Host, props: Props) -> dict[str, bytes]:
    """The files that are the same at any time; how a server came in is kept as it is, so it is no difference."""
    address = host.target.address
    if props["role"] != "controlplane":
        return {files.CONFIG: files.text(files.agent(props, address))}
    origin = files.origin_of(host.read(files.CONFIG))
    found = {files.CONFIG: files.text(files.server(props, address, origin))}
    if props["vip"]:
        found[files.MANIFEST] = files.kube_vip(str(props["vip"]), int(props["api_port"]))
    return found
