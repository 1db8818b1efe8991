"""Where a stack's state is kept: on this machine, in a bucket, or by Pulumi Cloud.

As Pulumi has it: `PULUMI_BACKEND_URL` first, then `backend: url:` in Pulumi.yaml. Then comes this project's own
default, a folder in the checkout, in place of what `pulumi login` last chose for some other project.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from cli.stacks import Stack
from providers.errors import UserError
from tools import paths

VARIABLE = "PULUMI_BACKEND_URL"
CREDENTIALS = "PULUMI_CREDENTIALS_PATH"
PROJECT_FILE = "Pulumi.yaml"
# The engine's words -> what to do about them, for those that don't say it themselves.
HINTS = {
    "passphrase": "put the passphrase of the stack's secrets into .homelab/passphrase (chmod 600)",
    "NoCredentialProviders": "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the keys of the bucket",
    "NoSuchBucket": "make the bucket first: the engine makes none",
    "checkpoint: EOF": "a kill tore the attributes that stand beside the state: rm the empty files *.json.attrs there",
    "PULUMI_ACCESS_TOKEN": "export PULUMI_ACCESS_TOKEN, or type `pulumi login`",
}


@dataclass(frozen=True)
class Backend:
    """A place for state.

    Attributes:
        url: as Pulumi takes it; its query may name a bucket's server.
        folder: of a file backend; None elsewhere.
    """

    url: str
    folder: Path | None = None

    @property
    def is_cloud(self) -> bool:
        """Whether a service keeps it, which has locks, history and keys of its own."""
        return urlsplit(self.url).scheme in ("http", "https")

    @property
    def is_bucket(self) -> bool:
        """Whether objects of a store are it: the engine's files and locks, on another machine."""
        return self.folder is None and not self.is_cloud

    @property
    def kind(self) -> str:
        """For people."""
        return "a folder" if self.folder else "Pulumi Cloud" if self.is_cloud else "a bucket"

    @property
    def shown(self) -> str:
        """The URL without its query and user, which may hold what is nobody's business."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def of(environment: Mapping[str, str], root: Path) -> Backend:
    """The backend that an engine with this environment uses in the project's folder."""
    url = environment.get(VARIABLE, "")
    if not url.startswith("file://"):
        return Backend(url)
    # As the engine reads it: relative to where it runs, its query not part of the path.
    return Backend(url, root / Path(url.removeprefix("file://").split("?")[0]).expanduser())


def environment(stack: Stack) -> dict[str, str]:
    """The environment of the stack's engine, with the backend that its owner chose.

    A twin belongs to this machine, and so does its state, whatever Pulumi.yaml says of the real lab's.

    Raises:
        UserError: Pulumi.yaml can't be read.
    """
    made = paths.environment(stack.name)
    named = "" if stack.is_twin or os.environ.get(VARIABLE) else named_in_project(stack.root)
    if named:
        made[VARIABLE] = paths.never_torn(named)
    if of(made, stack.root).is_cloud and not made.get(CREDENTIALS):
        logged_in = Path("~/.pulumi").expanduser()  # the project's engine has a home of its own, without a login
        if (logged_in / "credentials.json").is_file():
            made[CREDENTIALS] = str(logged_in)
    return made


def named_in_project(root: Path) -> str:
    """The `backend: url:` of Pulumi.yaml, or nothing.

    Raises:
        UserError: it is no text, or the file is no YAML.
    """
    path = root / PROJECT_FILE
    try:
        project = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except yaml.YAMLError as exc:
        raise UserError(f"{PROJECT_FILE}: no YAML: {' '.join(str(exc).split())}") from None
    backend = (project or {}).get("backend") or {}
    url = backend.get("url", "") if isinstance(backend, dict) else None
    if not isinstance(url, str) or (url and "://" not in url):
        raise UserError(f"{PROJECT_FILE}: backend: wants `url: s3://bucket?...`, `file://folder` or `https://...`")
    return url


def hint(reason: str) -> str:
    """What to do about what the engine says, after a semicolon; or nothing."""
    found = next((text for word, text in HINTS.items() if word in reason), "")
    return f"; {found}" if found else ""
