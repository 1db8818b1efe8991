"""k3s as a host has it: its downloads, its install script, its command line, and the program behind its two units."""

from __future__ import annotations

import base64
import contextlib
import contextvars
import hashlib
import json
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from twin.hosts import k3s_snapshot
from twin.hosts.k3s_agent import Agent
from twin.hosts.k3s_server import Server
from twin.hosts.shell import TABLE, Reply, command, said
from twin.hosts.units import PROGRAMS, Program
from twin.kubernetes.api import ApiError

if TYPE_CHECKING:
    from twin.hosts.host import Host

BINARY = "/usr/local/bin/k3s"
_SCRIPTS = {"server": "k3s-uninstall.sh", "agent": "k3s-agent-uninstall.sh"}
_UNITS = {"server": "k3s", "agent": "k3s-agent"}
_VERSION = re.compile(r"/(v[0-9.]+%2Bk3s[0-9]+)/(.+)\Z")
_ENV: contextvars.ContextVar[dict[str, str]] = contextvars.ContextVar("environment", default={})  # noqa: B039


def program(host: Host, argv: list[str]) -> Program:
    """What `k3s server` and `k3s agent` do."""
    return Server(host) if argv[1:2] == ["server"] else Agent(host)


PROGRAMS[BINARY] = program


def _release(version: str) -> bytes:
    return f"k3s {version} arm64\n".encode()


@command("curl")
def curl(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`curl -fsSL --retry N -o FILE URL`, of what k3s publishes with each version."""
    if "-o" not in argv:
        return said("curl: the twin downloads to files only\n", 2)
    target, url = argv[argv.index("-o") + 1], argv[-1]
    found = _VERSION.search(url)
    content = _published(found[1].replace("%2B", "+"), found[2]) if found else None
    if content is None:
        return said("curl: (22) The requested URL returned error: 404\n", 22)
    if not host.path(target).parent.is_dir():
        return said("curl: (23) Failure writing output to destination\n", 23)
    host.path(target).write_bytes(content)
    host.emit("download", url=url)
    return Reply()


def _published(version: str, name: str) -> bytes | None:
    match name:
        case "k3s-arm64":
            return _release(version)
        case "sha256sum-arm64.txt":
            return f"{hashlib.sha256(_release(version)).hexdigest()}  k3s-arm64\n".encode()
        case "install.sh":
            return f"#!/bin/sh\n# k3s install script of {version}\n".encode()
    return None


@command("env")
async def env(host: Host, argv: list[str], stdin: bytes) -> Reply:
    """Variables, then a command."""
    variables = {}
    while argv and "=" in argv[0]:
        key, _, value = argv.pop(0).partition("=")
        variables[key] = value
    if not argv or argv[0] not in TABLE:
        return said(f"env: '{argv[0] if argv else ''}': No such file or directory\n", 127)
    _ENV.set(variables)
    answer = TABLE[argv[0]](host, argv[1:], stdin)
    return answer if isinstance(answer, Reply) else await answer


@command("sh")
async def run_script(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """The scripts that it knows by their content: k3s' own."""
    text = host.read(argv[0]) if argv else ""
    if text.startswith("#!/bin/sh\n# k3s install script"):
        return _install(host)
    if text.startswith("#!/bin/sh\n# k3s uninstall"):
        return await _uninstall(host, text.split()[-1])
    return said(f"sh: 0: cannot open {argv[0] if argv else ''}: No such file\n", 127)


def _install(host: Host) -> Reply:
    """What the script leaves behind: a unit, an uninstall script, and the unit enabled."""
    variables = _ENV.get()
    if variables.get("INSTALL_K3S_SKIP_DOWNLOAD") != "true" or variables.get("INSTALL_K3S_SKIP_START") != "true":
        return said("[ERROR]  the twin's script neither downloads nor starts\n", 1)
    if not host.path(BINARY).is_file():
        return said(f"[ERROR]  Executable k3s binary not found at {BINARY}\n", 1)
    role = variables.get("INSTALL_K3S_EXEC", "server").split()[0]
    unit = _UNITS[role]
    text = (
        f"[Unit]\nDescription=Lightweight Kubernetes\n[Service]\nType=notify\nExecStart={BINARY} \\\n    {role} \\\n\n"
    )
    host.put(f"/etc/systemd/system/{unit}.service", text)
    host.put(f"/usr/local/bin/{_SCRIPTS[role]}", f"#!/bin/sh\n# k3s uninstall {role}\n", 0o755)
    host.put("/usr/local/bin/k3s-killall.sh", "#!/bin/sh\n# k3s killall\n", 0o755)
    host.units.enabled.add(unit)
    return said(f"[INFO]  systemd: Enabling {unit} unit\n")


async def _uninstall(host: Host, role: str) -> Reply:
    """Stops it and removes what it wrote, but for /etc/rancher/node."""
    unit = _UNITS[role]
    await host.units.stop(unit)
    host.units.enabled.discard(unit)
    gone = (f"/etc/systemd/system/{unit}.service", "/etc/rancher/k3s", "/run/k3s", "/var/lib/rancher/k3s",
            "/var/lib/kubelet", "/etc/cni", "/var/lib/cni", BINARY, "/usr/local/bin/k3s-killall.sh",
            f"/usr/local/bin/{_SCRIPTS[role]}")  # fmt: skip
    for path in gone:
        host.forget(path)
    host.emit("k3s_uninstalled", role=role)
    return Reply()


@command(BINARY, "k3s")
async def k3s(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`--version`; on a server `token create|list|delete` and `etcd-snapshot save`; `server --cluster-reset`."""
    if not host.path(BINARY).is_file():
        return said("sh: 1: k3s: not found\n", 127)
    if argv == ["--version"]:
        return said(f"k3s version {host.read(BINARY).split()[1]} (abcdef12)\n")
    found = host.units.program("k3s")
    server = found if isinstance(found, Server) else None
    if argv[:2] == ["etcd-snapshot", "save"]:
        return await k3s_snapshot.save(host, server, argv[2:])
    if argv[:1] == ["server"]:
        return await k3s_snapshot.reset(host, argv[1:])
    if argv[:1] == ["token"] and server is not None and server.ready:
        with contextlib.suppress(ApiError):
            return await _token(server, argv[1:])
    return said("FATA[0000] the server is not running, or the twin knows no such command\n", 1)


async def _token(server: Server, argv: list[str]) -> Reply:
    path = "/api/v1/namespaces/kube-system/secrets"
    async with server.admin() as api:
        if argv[:1] == ["create"]:
            life = _seconds(argv[argv.index("--ttl") + 1]) if "--ttl" in argv else 86400
            name, word = secrets.token_hex(3), secrets.token_hex(8)
            await api.create(path, _bootstrap_token(name, word, life))
            return said(f"K10{server.tls.digest}::{name}.{word}\n")
        if argv[:1] == ["delete"]:
            await api.delete(f"{path}/bootstrap-token-{argv[1].partition('.')[0]}")
            return said(f'bootstrap token "{argv[1]}" deleted\n')
        listed = [item for item in (await api.get(path))["items"] if item["type"] == "bootstrap.kubernetes.io/token"]
        tokens = [{"token": base64.b64decode(item["data"]["token-id"]).decode()} for item in listed]
        return said(json.dumps(tokens))


def _bootstrap_token(name: str, word: str, life_s: float) -> dict[str, object]:
    ends = (datetime.now(UTC) + timedelta(seconds=life_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{name}", "namespace": "kube-system"},
        "stringData": {
            "token-id": name, "token-secret": word, "expiration": ends, "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true", "auth-extra-groups": "system:bootstrappers:k3s:default-node-token",
        },
    }  # fmt: skip


def _seconds(text: str) -> float:
    """`1h0m0s` or `10m` in seconds."""
    units = {"h": 3600, "m": 60, "s": 1}
    return float(sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text)))
