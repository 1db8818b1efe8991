"""The kubeconfig and talosconfig that `up` leaves behind for kubectl, talosctl and this command."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.stacks import Stack
from providers.talos.identity import stored_certificate
from providers.talos.pki import ClientCert

FILES = ("kubeconfig", "talosconfig")
TENANTS, CLUSTERS = "tenants", "clusters"  # folders of kubeconfigs, NAME.kubeconfig


def leave(stack: Stack, outputs: Mapping[str, Any]) -> list[Path]:
    """Write what the program exported, readable by the owner only, and let `.homelab/<file>` point there.

    A file is there whole or not at all, also when the machine dies in between. What is not exported is left alone.

    Returns:
        The paths that people use.
    """
    stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = [name for name in FILES if outputs.get(name)]
    for name in given:
        write(stack.folder / name, str(outputs[name]))
        _point(stack.local / name, Path(stack.name, name))
    tenants = {name: str(found["kubeconfig"]) for name, found in (outputs.get("tenants") or {}).items()}
    more = _leave_all(stack.folder / TENANTS, tenants) if "kubeconfig" in outputs else []
    more += _leave_all(stack.folder / CLUSTERS, outputs.get("kubeconfigs") or {}) if outputs else []
    return [*(stack.local / name for name in given), *more]


def _leave_all(folder: Path, kubeconfigs: Mapping[str, str]) -> list[Path]:
    """Write the kubeconfigs of tenants or clusters, and remove those of the ones that are gone."""
    wanted = {_named(folder, name): text for name, text in kubeconfigs.items()}
    for path in set(folder.glob("*.kubeconfig")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(exist_ok=True, mode=0o700)
        write(path, text)
    return sorted(wanted)


def _named(folder: Path, name: str) -> Path:
    return folder / f"{name}.kubeconfig"


def forget(stack: Stack) -> None:
    """Remove a stack's credentials, and the links that would point at nothing."""
    for name in FILES:
        (stack.folder / name).unlink(missing_ok=True)
        link = stack.local / name
        if link.is_symlink() and not link.exists():
            link.unlink()
    for name in (TENANTS, CLUSTERS):
        shutil.rmtree(stack.folder / name, ignore_errors=True)
    if stack.folder.is_dir() and not any(stack.folder.iterdir()):
        stack.folder.rmdir()


def kubeconfig(stack: Stack) -> str | None:
    """The cluster's kubeconfig; None before the first `up`."""
    return _text(stack.folder / "kubeconfig")


def kubeconfig_of(stack: Stack, folder: str, name: str) -> str | None:
    """That of a tenant (`TENANTS`) or of a cluster beside that of Talos (`CLUSTERS`); None before its first `up`."""
    return _text(_named(stack.folder / folder, name))


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def talos_certificate(stack: Stack) -> ClientCert | None:
    """The certificate in the stack's talosconfig; None before the first `up`.

    Raises:
        UserError: the file is damaged.
    """
    return stored_certificate(stack.folder / "talosconfig")


def write(path: Path, text: str) -> None:
    """A file that only its owner can read, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from the first moment
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _point(link: Path, target: Path) -> None:
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
