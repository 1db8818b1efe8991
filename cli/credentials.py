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
TENANTS = "tenants"  # the folder of tenants' kubeconfigs, NAME.kubeconfig


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
    tenants = _leave_tenants(stack, outputs.get("tenants") or {}) if "kubeconfig" in outputs else []
    return [*(stack.local / name for name in given), *tenants]


def _leave_tenants(stack: Stack, tenants: Mapping[str, Any]) -> list[Path]:
    """Write tenants' kubeconfigs, and remove those of tenants that are gone."""
    wanted = {stack.folder / TENANTS / f"{name}.kubeconfig": found for name, found in tenants.items()}
    for path in set((stack.folder / TENANTS).glob("*.kubeconfig")) - set(wanted):
        path.unlink()
    for path, found in wanted.items():
        path.parent.mkdir(exist_ok=True, mode=0o700)
        write(path, str(found["kubeconfig"]))
    return sorted(wanted)


def forget(stack: Stack) -> None:
    """Remove a stack's credentials, and the links that would point at nothing."""
    for name in FILES:
        (stack.folder / name).unlink(missing_ok=True)
        link = stack.local / name
        if link.is_symlink() and not link.exists():
            link.unlink()
    shutil.rmtree(stack.folder / TENANTS, ignore_errors=True)
    if stack.folder.is_dir() and not any(stack.folder.iterdir()):
        stack.folder.rmdir()


def kubeconfig(stack: Stack) -> str | None:
    """The cluster's kubeconfig; None before the first `up`."""
    path = stack.folder / "kubeconfig"
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
