"""Daily snapshots of etcd on NFS: taken with a key that can do nothing else, verified, counted, and told of.

A job asks one control plane after the other until one gives a snapshot. Kubernetes' own Indexed Job does that: one
index for each of them, one at a time, and done with the first success.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi

from components import nfs
from components.after import after
from components.part import Part, Site
from components.scripts import backup_metrics, keep_backup
from components.versions import IMAGES
from components.workload import CHECKSUM, Container, Port, checksum, deployment, env, secret, service
from providers import errors
from providers.errors import UserError
from providers.talos import bolt, fields, snapshot
from providers.talos.access import Access
from providers.talos.backup import ROLE
from providers.talos.wire import os_authority
from settings import Settings as Lab
from settings import support
from settings.parts import EtcdBackup as Settings

NAMESPACE = "etcd-backup"
NAME = "etcd-backup"
USER = 65534  # nobody: what an NFS server makes of root, so the share is writable for it or for nobody
TALOSCTL = "ghcr.io/siderolabs/talosctl"  # of the very version of the nodes
PORT = Port("metrics", 9180, 9180)
JOB_LIMIT_S = 1800
OLDEST = (1, 31)  # with Jobs that end with the first success (successPolicy)
KEPT_JOBS = 3
PROGRAM, BACKUPS, WORK, ACCESS = "/program", "/backups", "/work", "/access"
FRESH = f"{WORK}/etcd.snapshot"
MODULES = (errors, bolt, fields, snapshot, keep_backup, backup_metrics)
INDEX = "$(JOB_COMPLETION_INDEX)"  # Kubernetes' own variable; the contexts of the talosconfig are called so

Object = dict[str, Any]


class EtcdBackup(Part):
    """The CronJob, its key to the Talos API, and the pod that shows Prometheus what is on the share."""

    def __init__(self, site: Site, settings: Settings) -> None:
        require(site.lab)
        super().__init__("etcd-backup", site)
        namespace = self.namespace(NAMESPACE)
        access = self.object("access", secret("access", NAMESPACE, {"config": self._access()}), [namespace])
        program = self.object("program", _program(), [namespace])
        self.object("job", cron_job(site.lab, settings), [access, program])
        self.object("metrics", metrics(site.lab, settings), [program])
        front = self.object("service", _front(), [namespace])
        if site.lab.platform.on("monitoring"):
            self.object("monitor", _monitor(), [front])
        self.register_outputs({})

    def _access(self) -> pulumi.Output[str]:
        lab, cluster = self.site.lab, self.site.cluster
        props = {
            "cluster": lab.cluster.name,
            "control_planes": {node.name: str(node.address) for node in lab.control_planes},
            "role": after(ROLE, *self.site.ready),
            "os_ca": cluster.bundle.apply(os_authority),
        }
        return self.keep(Access(f"{self.name}-talosconfig", props, self.child())).talosconfig


def require(lab: Lab) -> None:
    """Refuse a Kubernetes that would take the job and leave out what ends it with the first success.

    Raises:
        UserError: it is too old.
    """
    version = lab.cluster.kubernetes.version
    if support.minor(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UserError(
            f"cluster.kubernetes.version: {version} is too old for platform.etcd_backup; take {oldest} or newer"
        )


def cron_job(lab: Lab, settings: Settings) -> Object:
    """The CronJob. Its pod takes the snapshot to a folder of its own first: the share only ever sees whole ones."""
    count = len(lab.control_planes)
    job = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": 1,
        "backoffLimitPerIndex": 1,
        "successPolicy": {"rules": [{"succeededCount": 1}]},
        "activeDeadlineSeconds": JOB_LIMIT_S,
        "template": {"metadata": {"labels": {"app": f"{NAME}-job"}}, "spec": _pod(lab, settings)},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "schedule": settings.schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": JOB_LIMIT_S,
            "successfulJobsHistoryLimit": KEPT_JOBS,
            "failedJobsHistoryLimit": KEPT_JOBS,
            "jobTemplate": {"spec": job},
        },
    }


def _pod(lab: Lab, settings: Settings) -> Object:
    made = deployment(
        NAME, NAMESPACE, [_keeper(lab, settings)], user=USER, init=[_taker(lab)], volumes=_volumes(lab, settings)
    )
    pod: Object = made["spec"]["template"]["spec"]
    return {**pod, "restartPolicy": "Never"}


def _taker(lab: Lab) -> Container:
    return Container(
        "take",
        f"{TALOSCTL}:{lab.cluster.talos.version}",
        {"cpu": "25m", "memory": "64Mi"},
        mounts={WORK: "work", ACCESS: "access"},
        env=env({"HOME": WORK}),
        args=["--talosconfig", f"{ACCESS}/config", "--context", INDEX, "etcd", "snapshot", FRESH],
    )


def _keeper(lab: Lab, settings: Settings) -> Container:
    kept = {"--keep": settings.keep, "--max-age-days": settings.max_age_days, "--minimum-mb": settings.minimum_mb}
    return Container(
        "keep",
        IMAGES["python"],
        {"cpu": "25m", "memory": "128Mi"},
        mounts={WORK: "work", PROGRAM: "program", BACKUPS: "backups"},
        env=_ENVIRONMENT,
        command=["python", "-m", keep_backup.__name__],
        args=["--snapshot", FRESH, *_where(lab), *(text for key, value in kept.items() for text in (key, str(value)))],
    )


def metrics(lab: Lab, settings: Settings) -> Object:
    """The pod that counts what is on the share."""
    container = Container(
        "metrics",
        IMAGES["python"],
        {"cpu": "10m", "memory": "32Mi"},
        ports=[PORT],
        probe=PORT.container,
        mounts={PROGRAM: "program", BACKUPS: "backups"},
        env=_ENVIRONMENT,
        command=["python", "-m", backup_metrics.__name__],
        args=[*_where(lab), "--minimum-mb", str(settings.minimum_mb), "--port", str(PORT.container)],
    )
    mark = {CHECKSUM: checksum("".join(_program()["data"].values()))}
    volumes = [volume for volume in _volumes(lab, settings) if volume["name"] in ("program", "backups")]
    return deployment(NAME, NAMESPACE, [container], user=USER, volumes=volumes, annotations=mark)


_ENVIRONMENT = env({"PYTHONPATH": PROGRAM, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"})


def _where(lab: Lab) -> list[str]:
    return ["--folder", f"{BACKUPS}/{lab.cluster.name}", "--cluster", lab.cluster.name]


def share(lab: Lab, settings: Settings) -> nfs.Share:
    """Where the backups go: the settings' own server, else the nfs part's.

    Raises:
        UserError: there is neither.
    """
    found = nfs.Share(settings.nfs.server, settings.nfs.path) if settings.nfs else nfs.share(lab)
    if found is None:
        raise UserError("platform.etcd_backup.nfs is missing, and the part nfs is off")
    return found


def _volumes(lab: Lab, settings: Settings) -> list[Object]:
    at = share(lab, settings)
    return [
        {"name": "work", "emptyDir": {}},
        {"name": "access", "secret": {"secretName": "access", "defaultMode": 0o440}},
        {"name": "program", "configMap": {"name": "program", "items": _paths()}},
        {"name": "backups", "nfs": {"server": at.server, "path": at.path}},
    ]


def _program() -> Object:
    """Our own modules, as they run here."""
    files = {_key(module): Path(str(module.__file__)).read_text(encoding="utf-8") for module in MODULES}
    metadata = {"name": "program", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files}


def _key(module: Any) -> str:
    return f"{module.__name__}.py"


def _paths() -> list[dict[str, str]]:
    """Each module in its package's folder, so that it imports there what it imports here."""
    return [{"key": _key(module), "path": module.__name__.replace(".", "/") + ".py"} for module in MODULES]


def _front() -> Object:
    made = service(NAME, NAMESPACE, [PORT])
    return {**made, "metadata": {**made["metadata"], "labels": {"app": NAME}}}  # by which Prometheus finds it


def _monitor() -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": NAME}},
            "endpoints": [{"port": PORT.name, "interval": "60s", "scrapeTimeout": "20s"}],
        },
    }
