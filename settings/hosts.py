"""Linux hosts that are reached over SSH."""

from pydantic import StrictBool, StrictInt
from pydantic.json_schema import SkipJsonSchema

from . import hosts_kinds, kinds
from .cni import Role
from .part import Part, key


class HostLogin(Part):
    """How one host is logged into. What it does not say, its cluster does."""

    host_key: hosts_kinds.HostKey = key(
        "The host's public key; any other host is refused. `ssh-keyscan -t ed25519 ADDRESS` shows it.",
        "ssh-ed25519 AAAA...",
        unit="ssh-ed25519 AAAA...",
    )
    user: hosts_kinds.User | None = key("User, if not its cluster's.", default=None)
    port: StrictInt | None = key("Port of SSH, if not its cluster's.", default=None, ge=1, le=65535, unit="TCP port")
    key: kinds.Secret | None = key(
        "Private key, if not its cluster's, as a Pulumi secret.", default=None, unit="secret"
    )


class Host(Part):
    """One Linux host that is, or is to become, a node of a cluster."""

    name: SkipJsonSchema[kinds.Name]
    cluster: kinds.Name = key("The cluster that it is in, by its name under clusters.", "garage")
    role: Role = key("controlplane or worker.", "worker")
    address: kinds.Address | None = key(
        "Its address. Absent: it is looked for in the LAN by its MAC address.", default=None
    )
    mac: kinds.Mac | None = key("MAC address of its network card.", default=None)
    ssh: HostLogin = key("How it is logged into.", {"host_key": "ssh-ed25519 AAAA..."})
    labels: dict[kinds.LabelKey, kinds.LabelValue] = key("Kubernetes labels.", default_factory=dict)
    taints: dict[kinds.LabelKey, kinds.Taint] = key(
        'Kubernetes taints: key -> "value:NoSchedule".', default_factory=dict
    )
    time_servers: tuple[kinds.Host, ...] = key("NTP servers; empty: those that its system came with.", default=())
    allow_reboot: StrictBool = key(
        "Whether it may be rebooted where its kernel command line had to be changed (cgroups).", default=False
    )
    generation: StrictInt = key(
        "How often what another cluster left on it may have been removed. 0: never, such a host is refused; one more: "
        "remove it once, data included.",
        default=0,
        ge=0,
        unit="count",
    )
    disabled: StrictBool = key("Keep this host out of its cluster.", default=False)

    @property
    def is_control_plane(self) -> bool:
        """Whether this host runs the Kubernetes API."""
        return self.role is Role.CONTROLPLANE
