"""When etcd was last backed up: by `homelab backup` on this machine, or by the cluster's own nightly job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = "backups"
JOB = "/apis/batch/v1/namespaces/etcd-backup/cronjobs/etcd-backup"
ANSWER_S = 4.0
_STAMP = re.compile(r"etcd-(?P<cluster>.+)-(?P<at>\d{8}T\d{6}Z)\.db\Z")


def newest(folder: Path, cluster: str, now: datetime, after: datetime | None = None) -> datetime | None:
    """When the newest backup of a cluster was taken; None where none is known.

    Args:
        folder: the stack's, such as `.homelab/homelab`.
        cluster: its name.
        now: the present; what claims to be of the future is no backup.
        after: a backup of this machine's that is so new is enough, and the cluster is not asked.
    """
    here = [at for at in _here(folder / FOLDER, cluster) if at <= now]
    if here and after is not None and max(here) >= after:
        return max(here)
    nightly = _nightly(folder / "kubeconfig")
    return max([*here, *([nightly] if nightly is not None and nightly <= now else [])], default=None)


def _here(folder: Path, cluster: str) -> list[datetime]:
    found = [_STAMP.match(path.name) for path in folder.glob("*.db") if path.is_file()]
    return [_stamped(match["at"]) for match in found if match is not None and match["cluster"] == cluster]


def _stamped(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _nightly(kubeconfig: Path) -> datetime | None:
    """The job's last success; a cluster that does not answer now tells of none."""
    from providers.errors import HomelabError  # noqa: PLC0415  # a run that upgrades nothing needs no client
    from providers.kubernetes.client import Kube  # noqa: PLC0415

    try:
        with Kube(kubeconfig.read_text(encoding="utf-8"), timeout_s=ANSWER_S) as kube:
            return last_success(kube.look(JOB))
    except (OSError, HomelabError):
        return None


def last_success(job: Mapping[str, Any] | None) -> datetime | None:
    """What a CronJob says of its last job that ended well."""
    text = ((job or {}).get("status") or {}).get("lastSuccessfulTime")
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
