"""What a node must have before Longhorn is put on it; told for all nodes at once, with how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import yaml

from providers import pace
from providers.errors import HomelabError, RefusedError
from providers.talos.client import Mount, Talos, TalosError
from providers.talos.pki import ClientCert

EXTENSIONS = ("iscsi-tools", "util-linux-tools")
# Readable when the module is in the kernel or loaded; Longhorn's volumes reach their nodes by iSCSI.
MODULES = {"iscsi_tcp": "/sys/module/iscsi_tcp/parameters/max_lun"}
OPTIONS = frozenset({"bind", "rshared", "rw"})
CALL_S = 20.0
GB = 10**9


@dataclass(frozen=True)
class Wish:
    """What Longhorn is to find.

    Attributes:
        data_path: folder for replicas on every node.
        minimum_disk_gb: room that must be free there.
    """

    data_path: str
    minimum_disk_gb: int


@dataclass(frozen=True)
class Found:
    """What a node has.

    Attributes:
        extensions: names of the system extensions in its image.
        modules: of `MODULES`, those that are there.
        mounts: its file systems.
        kubelet_mounts: destination -> options of the folders that the kubelet, and so pods, can mount.
    """

    extensions: frozenset[str]
    modules: frozenset[str]
    mounts: tuple[Mount, ...]
    kubelet_mounts: Mapping[str, frozenset[str]]

    def free_bytes(self, path: str) -> int:
        """The room on the file system that a path is on."""
        holders = [m for m in self.mounts if path == m.path or path.startswith(m.path.rstrip("/") + "/")]
        return max(holders, key=lambda m: len(m.path)).available_bytes if holders else 0


def check(nodes: Mapping[str, str], cert: ClientCert, wish: Wish) -> None:
    """Look at every node (name -> address) at once.

    Raises:
        RefusedError: names every node that lacks something, what, and how to mend it.
    """
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        faults = pool.map(lambda item: _faults_at(item[0], item[1], cert, wish), nodes.items())
        found = [fault for node in faults for fault in node]
    if found:
        raise RefusedError(f"Longhorn is not installed: {'; '.join(found)}")


def faults(found: Found, wish: Wish) -> tuple[str, ...]:
    """What a node lacks, each with the fix."""
    return tuple(_faults(found, wish))


def _faults(found: Found, wish: Wish) -> Iterable[str]:
    missing = [name for name in EXTENSIONS if name not in found.extensions]
    if missing:
        yield (
            f"its image lacks {' and '.join(missing)}; check cluster.talos.extensions, "
            "then raise the node's generation to install it anew"
        )
    for module in sorted(MODULES.keys() - found.modules):
        yield f"its kernel has not loaded {module}; add it to machine.kernel.modules in cluster.patches"
    options = found.kubelet_mounts.get(wish.data_path)
    if options is None or not options >= OPTIONS:
        yield (
            f"its kubelet does not mount {wish.data_path} with {', '.join(sorted(OPTIONS))}; "
            "check machine.kubelet.extraMounts in the patches"
        )
    free = found.free_bytes(wish.data_path)
    if free < wish.minimum_disk_gb * GB:
        yield (
            f"{free / GB:.1f} GB are free for {wish.data_path} and {wish.minimum_disk_gb} GB are asked for; "
            "take a larger disk, or lower platform.longhorn.minimum_disk_gb"
        )


def _faults_at(name: str, address: str, cert: ClientCert, wish: Wish) -> tuple[str, ...]:
    where = f"{name} ({address})"
    try:
        with Talos.secure(address, cert) as talos:
            return tuple(f"{where}: {fault}" for fault in faults(observe(talos), wish))
    except HomelabError as error:
        return (f"{where}: could not be looked at ({error})",)


def observe(talos: Talos) -> Found:
    """Ask a node for all of it."""
    wait = pace.limit(CALL_S)
    return Found(
        extensions=frozenset(talos.extensions(timeout_s=wait)),
        modules=frozenset(name for name, path in MODULES.items() if _is_there(talos, path, wait)),
        mounts=talos.mounts(timeout_s=wait),
        kubelet_mounts=kubelet_mounts(talos.machine_config(timeout_s=wait)),
    )


def kubelet_mounts(config: str) -> dict[str, frozenset[str]]:
    """The kubelet's own mounts in a machine config: destination -> options."""
    documents: Sequence[Any] = [document for document in yaml.safe_load_all(config) if isinstance(document, dict)]
    main: Mapping[str, Any] = next((document for document in documents if "machine" in document), {})
    mounts = ((main.get("machine") or {}).get("kubelet") or {}).get("extraMounts") or ()
    return {mount["destination"].rstrip("/"): frozenset(mount.get("options") or ()) for mount in mounts}


def _is_there(talos: Talos, path: str, wait: float) -> bool:
    try:
        talos.read_file(path, timeout_s=wait)
    except TalosError:
        return False
    return True
