"""The typed settings of a lab: read once, every mistake reported at once, each with its path and the fix."""

from .applications import Application
from .clusters import FurtherCluster
from .cni import Cni, Role
from .hosts import Host
from .load import from_pulumi, from_values, load, stack_file
from .models import (
    Board,
    Cluster,
    Credential,
    DiskSelector,
    DiskType,
    Distribution,
    Endpoint,
    Install,
    Kubernetes,
    Machine,
    Module,
    Network,
    Node,
    Registries,
    Settings,
    Talos,
)
from .platform import Platform
from .problems import Problem, SettingsError

__all__ = [
    "Application",
    "Board",
    "Cluster",
    "Cni",
    "Credential",
    "DiskSelector",
    "DiskType",
    "Distribution",
    "Endpoint",
    "FurtherCluster",
    "Host",
    "Install",
    "Kubernetes",
    "Machine",
    "Module",
    "Network",
    "Node",
    "Platform",
    "Problem",
    "Registries",
    "Role",
    "Settings",
    "SettingsError",
    "Talos",
    "from_pulumi",
    "from_values",
    "load",
    "stack_file",
    "warnings",
]


def warnings(settings: Settings) -> tuple[Problem, ...]:
    """What in these settings is allowed and probably not meant."""
    return settings.warnings
