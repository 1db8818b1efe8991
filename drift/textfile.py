"""The findings as metrics, for the textfile collector of Prometheus' node exporter.

The wire is Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from drift.findings import Report
from drift.sightings import put
from providers.errors import UserError

READABLE = 0o644  # the node exporter is another user


def metrics(report: Report, at: datetime) -> str:
    """All metrics. A name is there once, however much is wrong with it."""
    drift = [{"kind": finding.kind.value, "name": finding.name} for finding in report.findings]
    silent = [{"name": item.name} for item in report.unasked]
    return "".join(
        (
            *_family("homelab_drift", "What differs from the settings.", drift),
            *_family("homelab_drift_unasked", "What gave no answer, so that nothing is known of it.", silent),
            "# HELP homelab_drift_last_run_seconds When this was looked at, in seconds since 1970.\n",
            "# TYPE homelab_drift_last_run_seconds gauge\n",
            f"homelab_drift_last_run_seconds {at.timestamp():.0f}\n",
        )
    )


def write(path: Path, report: Report, at: datetime) -> None:
    """Write them where the collector reads.

    Raises:
        UserError: the collector would not read a file of that name, or it can't be written.
    """
    if path.suffix != ".prom":
        raise UserError(f"{path}: the textfile collector reads files that end in .prom; give it such a name")
    put(path, metrics(report, at), READABLE)


def _family(name: str, text: str, samples: Iterable[Mapping[str, str]]) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
    for labels in dict.fromkeys(tuple(sample.items()) for sample in samples):
        yield f"{name}{{{','.join(f'{key}={_quoted(value)}' for key, value in labels)}}} 1\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'
