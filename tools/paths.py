"""Where the tools are, and the environment that runs the project on them. Nothing here builds or downloads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tools import pins
from tools.pins import ROOT

# The passphrase of the simulated labs guards nothing, and everybody has to have it.
TWIN_STACKS = frozenset({"twin", "sixteen"})
TWIN_PASSPHRASE = "twin"  # noqa: S105


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """What the project keeps outside its checkouts: `$HOMELAB_CACHE`, else `homelab` in the user's cache folder."""
    if given := environ.get("HOMELAB_CACHE"):
        return Path(given).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "homelab"


@lru_cache
def _key(tool: pins.Tool) -> str:
    return pins.key(tool)


def home(tool: pins.Tool, environ: Mapping[str, str] = os.environ) -> Path:
    """The tool's own folder, which holds `bin`. It exists when the tool has been installed, and is then complete."""
    return cache(environ) / "tools" / f"{tool.name}-{tool.version}-{_key(tool)}"


def installed(tool: pins.Tool, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether every one of its programs is there."""
    folder = home(tool, environ) / "bin"
    return all((folder / program).exists() for program in tool.programs)


def pulumi_bin() -> Path:
    """The folder with `pulumi` and its Python language host."""
    return home(pins.ENGINE) / "bin"


def pulumi_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Pulumi's own folder, with the plugins under `plugins`; another set of plugins has another."""
    keys = " ".join(_key(tool) for tool in pins.PLUGINS)
    return cache(environ) / "homes" / hashlib.sha256(keys.encode()).hexdigest()[:12]


def servers() -> Path:
    """The folder whose `bin` holds the twin's servers; the twin gets it as `HOMELAB_TOOLS`."""
    return Path(os.environ.get("HOMELAB_TOOLS") or home(pins.SERVERS))


def servers_bin() -> Path:
    """The folder with etcd, the Kubernetes control plane and kwok."""
    return servers() / "bin"


def talosctl() -> Path:
    """Talos' own client, which the tests hold against the twin."""
    return home(pins.TALOS_CLIENT) / "bin" / "talosctl"


def kubeadm() -> Path:
    """kubeadm, which the tests hold the program's documents against."""
    return home(pins.KUBEADM) / "bin" / "kubeadm"


def helm() -> Path:
    """Helm, which the tests and the bench hold the program's charts against."""
    return home(pins.HELM_CLIENT) / "bin" / "helm"


def promtool() -> Path:
    """Prometheus' checker of rules."""
    return home(pins.PROMETHEUS_CLIENT) / "bin" / "promtool"


def actionlint() -> Path:
    """The checker of GitHub's workflows."""
    return home(pins.WORKFLOW_LINTER) / "bin" / "actionlint"


def virtualenv(root: Path = ROOT) -> Path:
    """The checkout's Python."""
    return root / ".venv"


def environment(stack: str, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment in which `pulumi` and the twin run for a stack.

    The virtualenv comes first on PATH: the language host takes the Python that it finds there, and knows no
    `virtualenv` option. State stays on this machine unless `PULUMI_BACKEND_URL` says otherwise.
    """
    env = {key: value for key, value in environ.items() if key not in ("VIRTUAL_ENV", "PYTHONHOME")}
    engine = home(pins.ENGINE, environ)
    python = virtualenv(root) / "bin"
    env["PATH"] = os.pathsep.join([str(python), str(engine / "bin"), environ.get("PATH", os.defpath)])
    env["PULUMI_PYTHON_CMD"] = str(python / "python")
    env["PULUMI_HOME"] = str(pulumi_home(environ))
    env["PULUMI_SKIP_UPDATE_CHECK"] = "true"
    # Each object is applied by a manager of a random name, which its state keeps. The fields of one that was made by a
    # run that was killed, or whose state was lost, belong to a name that nobody knows any more.
    env["PULUMI_K8S_ENABLE_PATCH_FORCE"] = "true"
    env["HOMELAB_TOOLS"] = environ.get("HOMELAB_TOOLS") or str(home(pins.SERVERS, environ))
    env["PULUMI_BACKEND_URL"] = never_torn(env.get("PULUMI_BACKEND_URL") or _local_backend(root))
    return _with_passphrase(env, stack, root)


def _local_backend(root: Path) -> str:
    folder = root / ".homelab" / "state"
    folder.mkdir(parents=True, exist_ok=True)
    return f"file://{folder}"


def never_torn(backend: str) -> str:
    """Tell the engine to keep no attributes of the files of its state.

    A file of the state is replaced as a whole. Its attributes, which nobody reads, stand in a second file that is
    written in place: a run killed just then leaves it empty, and the engine takes the state for unreadable ("EOF").
    """
    if not backend.startswith("file://") or "metadata=" in backend:
        return backend
    return f"{backend}{'&' if '?' in backend else '?'}metadata=skip"


def _with_passphrase(env: dict[str, str], stack: str, root: Path) -> dict[str, str]:
    """The passphrase of the stack's secrets: a twin's is known, a real lab's is the owner's own word or file."""
    kept = root / ".homelab" / "passphrase"
    if stack in TWIN_STACKS or (root / "twin" / "labs" / f"{stack}.yaml").is_file():
        env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        env["PULUMI_CONFIG_PASSPHRASE"] = TWIN_PASSPHRASE
    elif "PULUMI_CONFIG_PASSPHRASE" not in env and "PULUMI_CONFIG_PASSPHRASE_FILE" not in env and kept.is_file():
        env["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(kept)
    return env
