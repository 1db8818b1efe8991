"""Tenants: clusters whose control planes are pods of the home cluster."""

from enum import StrEnum
from ipaddress import IPv4Network

from pydantic import StrictBool, StrictInt

from . import kinds
from .part import Part, key

DEFAULT_TENANT_PODS = IPv4Network("10.248.0.0/16")
DEFAULT_TENANT_SERVICES = IPv4Network("10.112.0.0/16")
KONNECTIVITY_PORT = 8132


class Datastore(StrEnum):
    """Where a tenant's objects are kept."""

    DEFAULT = "default"
    OWN = "own"


class Tenant(Part):
    """A cluster whose control plane runs as pods of the home cluster; its nodes are elsewhere."""

    version: kinds.Version = key(
        "Kubernetes version of its control plane; its nodes' may be older and never newer. No default, as for Talos.",
        "v1.36.1",
    )
    address: kinds.Address = key(
        "Address of its API: out of platform.pools, and its alone. Its nodes reach it there.", "192.168.1.247"
    )
    port: StrictInt = key("Port of its API.", default=6443, ge=1, le=65535, unit="TCP port")
    replicas: StrictInt = key("How many pods its control plane has.", default=2, ge=1, le=5, unit="count")
    pod_subnet: kinds.Subnet = key("Where its pods get addresses.", default=DEFAULT_TENANT_PODS)
    service_subnet: kinds.Subnet = key(
        "Where its services get addresses, /12 or smaller.", default=DEFAULT_TENANT_SERVICES
    )
    names: tuple[kinds.Host, ...] = key("More names and addresses in its API's certificate.", default=())
    datastore: Datastore = key(
        "default: the etcd that tenants share, each with a user and a prefix of its own; own: an etcd for it alone.",
        default=Datastore.DEFAULT,
    )
    konnectivity: StrictBool = key(
        "Whether its API reaches webhooks, logs and shells through connections that its nodes open, on port 8132.",
        default=True,
    )
    removable: StrictBool = key(
        "Whether it may be removed, with all that is in it. `up` with true comes before taking it out of the file.",
        default=False,
    )
