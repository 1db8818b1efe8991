"""`k3s etcd-snapshot save`, and `k3s server --cluster-reset`: the datastore out of a server, and back into one."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from twin.disk import write
from twin.hosts import k3s_bootstrap
from twin.hosts.k3s_server import DATA, Server
from twin.hosts.shell import Reply, said
from twin.talos.etcd_client import EtcdError
from twin.talos.process import program

if TYPE_CHECKING:
    from twin.hosts.host import Host

_FOLDER = f"{DATA}/db/snapshots"
_FLAG = f"{DATA}/db/reset-flag"
_RESET_S = 60.0


def _option(argv: list[str], name: str, default: str = "") -> str:
    """`--name VALUE` or `--name=VALUE`."""
    for at, word in enumerate(argv):
        if word == f"--{name}" and at + 1 < len(argv):
            return argv[at + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return default


def fatal(text: str) -> Reply:
    """k3s' last words."""
    return said(f"FATA[0000] {text}\n", 1)


async def save(host: Host, server: Server | None, argv: list[str]) -> Reply:
    """`etcd-snapshot save [--name X] [--dir FOLDER]`: etcd's own snapshot, from this server's member."""
    if server is None or not server.ready:
        return fatal(f'Post "https://127.0.0.1:6443/db/snapshot": dial tcp {host.address}:6443: connection refused')
    if not server.uses_etcd:
        return fatal("etcd datastore disabled")
    name = f"{_option(argv, 'name', 'on-demand')}-{host.name}-{int(time.time())}"
    folder = host.path(_option(argv, "dir", _FOLDER))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        async with server.etcd() as client:
            data = b"".join([part async for part in client.snapshot()])
    except EtcdError as error:
        return fatal(f"failed to save snapshot: {error}")
    write(folder / name, data)
    (folder / name).chmod(0o600)
    host.emit("snapshot_saved", bytes=len(data))
    return said(f"Snapshot {name} saved.\n")


async def reset(host: Host, argv: list[str]) -> Reply:
    """`server --cluster-reset --cluster-reset-restore-path=FILE`: one member, with what the snapshot holds."""
    path = _option(argv, "cluster-reset-restore-path")
    server = Server(host)
    problem = _problem(host, server, argv, path)
    if problem:
        return fatal(problem)
    try:
        await asyncio.wait_for(_reset(host, server, host.path(path)), _RESET_S)
    except (OSError, TimeoutError) as error:
        return fatal(str(error) or "etcd did not come up")
    finally:
        await server.stop()
    host.put(_FLAG, "")
    host.emit("cluster_reset", path=path)
    words = "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now."
    return Reply(0, b"", f'level=info msg="{words}"\n'.encode())


def _problem(host: Host, server: Server, argv: list[str], path: str) -> str:
    """Why k3s would not even begin."""
    if host.units.state("k3s") != "inactive":
        return f"starting kubernetes: preparing server: listen tcp {host.address}:6443: bind: address already in use"
    if "--cluster-reset" not in argv or not path:
        return "the twin knows `server --cluster-reset --cluster-reset-restore-path=FILE`"
    if server.config.get("server"):
        why = "remove server from configuration before resetting"
        return f"cannot perform cluster-reset while server URL is set - {why}"
    if not host.path(f"{DATA}/token").is_file():
        return f"{DATA}/token does not exist, please pass --token to complete the restoration"
    if host.path(_FLAG).exists():
        return (
            "cluster-reset was successfully performed, please remove the cluster-reset flag and start k3s normally, if "
            f"you need to perform another cluster reset, you must first manually delete the {_FLAG} file"
        )
    return "" if host.path(path).is_file() else f"etcd: snapshot path does not exist: {path}"


async def _reset(host: Host, server: Server, snapshot: Path) -> None:
    """The old data moves aside, as k3s does it; then etcd's own tool, and the authorities that the snapshot holds."""
    server.name_member()
    data = server.etcd_data
    if data.exists():
        data.rename(data.with_name(f"etcd-old-{int(time.time())}"))
    await _restored(host, server, snapshot)
    server.password = host.read(f"{DATA}/token").strip().rpartition(":")[2]
    await server.run_etcd(None)
    await k3s_bootstrap.load(server)


async def _restored(host: Host, server: Server, snapshot: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        program(host.lab.tools, "etcdutl"), "snapshot", "restore", str(snapshot), f"--data-dir={server.etcd_data}",
        f"--name={server.member}", f"--initial-cluster={server.member}={server.peer_url}",
        f"--initial-advertise-peer-urls={server.peer_url}",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await child.communicate()
    if child.returncode:
        shutil.rmtree(server.etcd_data, ignore_errors=True)
        raise OSError(err.decode(errors="replace").strip().splitlines()[-1].removeprefix("Error: "))
