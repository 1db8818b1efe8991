"""The COSI resources of a node: YAML for people and protobuf for talosctl in each (facts B3)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from google.protobuf.message import Message

from twin.kubernetes import manifests
from twin.talos import install
from twin.talos.api import cosi_pb2 as pb
from twin.talos.registry import lan

if TYPE_CHECKING:
    from twin.talos.os import Os

Item = tuple[str, Any, Message]  # id, YAML value, protobuf
_STAGES = (
    "unknown",
    "booting",
    "installing",
    "maintenance",
    "running",
    "rebooting",
    "shutting down",
    "resetting",
    "upgrading",
)
_TYPES = {"init": 1, "controlplane": 2, "worker": 3}


@dataclass(frozen=True)
class Kind:
    """A type of resource: where it lives and how it is read."""

    namespace: str
    items: Callable[[Os], Iterator[Item]]
    sensitive: bool = False
    columns: tuple[tuple[str, str], ...] = ()


def read(system: Os, name: str) -> list[pb.Resource]:
    """All resources of a type on a node."""
    kind = TYPES[name]
    return [_resource(name, kind.namespace, item) for item in kind.items(system)]


def _resource(kind: str, namespace: str, item: Item) -> pb.Resource:
    identity, value, message = item
    text = value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False)
    metadata = pb.Metadata(namespace=namespace, type=kind, id=identity, version="1", phase="running", owner="twin")
    metadata.created.GetCurrentTime()
    metadata.updated.CopyFrom(metadata.created)
    return pb.Resource(metadata=metadata, spec=pb.Spec(proto_spec=message.SerializeToString(), yaml_spec=text))


def _machine_status(system: Os) -> Iterator[Item]:
    unmet = system.unmet()
    ready = system.stage in ("running", "maintenance") and not unmet
    conditions = [pb.UnmetCondition(name=name, reason=reason) for name, reason in unmet]
    message = pb.MachineStatusSpec(
        stage=_STAGES.index(system.stage), status=pb.MachineStatusStatus(ready=ready, unmet_conditions=conditions)
    )
    listed = [{"name": name, "reason": reason} for name, reason in unmet]
    yield "machine", {"stage": system.stage, "status": {"ready": ready, "unmetConditions": listed}}, message


def _machine_type(system: Os) -> Iterator[Item]:
    if system.config is not None:
        name = str(system.at("machine", "type"))
        yield "machine-type", name + "\n", pb.MachineTypeSpec(machine_type=_TYPES[name])


def _machine_config(system: Os) -> Iterator[Item]:
    if system.config is not None:
        yield "v1alpha1", system.config.text.decode(), pb.MachineConfigSpec(yaml_marshalled=system.config.text)


def _hostname(system: Os) -> Iterator[Item]:
    name = system.hostname if system.config is not None else ""
    if name:
        yield "hostname", {"hostname": name, "domainname": ""}, pb.HostnameStatusSpec(hostname=name)


def _nodename(system: Os) -> Iterator[Item]:
    if system.config is not None:
        yield "nodename", {"nodename": system.hostname}, pb.NodenameSpec(nodename=system.hostname)


def _disks(system: Os) -> Iterator[Item]:
    disk, spec = system.machine.disk, system.machine.spec
    name = disk.device.rpartition("/")[2]
    value: dict[str, Any] = {
        "dev_path": disk.device, "size": disk.size_bytes, "pretty_size": f"{disk.size_bytes / 1e9:.0f} GB",
        "io_size": 512, "sector_size": 512, "readonly": False, "cdrom": False, "model": install.DISK_MODEL,
        "serial": spec.serial, "bus_path": "/platform/fe2e0000.mmc/", "sub_system": "/sys/class/block",
        "transport": "mmc",
    }  # fmt: skip
    yield name, value, pb.DiskSpec(**value)


def _system_disk(system: Os) -> Iterator[Item]:
    if system.config is not None:
        device = system.machine.disk.device
        name = device.rpartition("/")[2]
        yield "system-disk", {"diskID": name, "devPath": device}, pb.SystemDiskSpec(disk_id=name, dev_path=device)


def _links(system: Os) -> Iterator[Item]:
    spec = system.machine.spec
    mac = bytes.fromhex(spec.mac.replace(":", ""))
    value = {
        "index": 2, "type": "ether", "hardwareAddr": spec.mac, "permanentAddr": spec.mac, "mtu": 1500,
        "operationalState": "up", "kind": "", "busPath": "fe1c0000.ethernet", "driver": "rk_gmac-dwmac",
        "linkState": True,
        "speedMbit": 1000,
    }  # fmt: skip
    message = pb.LinkStatusSpec(
        index=2, type=1, hardware_addr=mac, permanent_addr=mac, mtu=1500, operational_state=6,
        bus_path="fe1c0000.ethernet", driver="rk_gmac-dwmac", link_state=True, speed_megabits=1000,
    )  # fmt: skip
    yield spec.link, value, message


def _addresses(system: Os) -> Iterator[Item]:
    length = system.lab.subnet.prefixlen
    own = [(system.address, length), *((vip, 32) for vip in system.vip.held())]
    for address, bits in own:
        cidr, link = f"{address}/{bits}", system.machine.spec.link
        prefix = ipaddress.ip_address(address).packed + bytes([bits])  # Go's binary form of a prefix
        message = pb.AddressStatusSpec(
            address=pb.NetIPPrefix(ip=prefix[:-1], prefix_length=bits), link_name=link, family=2
        )
        yield f"{link}/{cidr}", {"address": cidr, "linkName": link, "family": "inet4", "scope": "global"}, message


def _services(system: Os) -> Iterator[Item]:
    for name, service in sorted(system.services.items()):
        running = service.state == "Running"
        message = pb.ServiceSpec(running=running, healthy=service.healthy)
        yield name, {"running": running, "healthy": service.healthy, "unknown": False}, message


def _extensions(system: Os) -> Iterator[Item]:
    named = [(name.rpartition("/")[2], "v1.0.0") for name in install.extensions(system)]
    for index, (name, version) in enumerate([*named, ("schematic", system.schematic)]):
        image = f"{index:04}.{name}.sqsh"
        message = pb.ExtensionStatusSpec(image=image, metadata=pb.ExtensionMetadata(name=name, version=version))
        yield str(index), {"image": image, "metadata": {"name": name, "version": version}}, message


def _version(system: Os) -> Iterator[Item]:
    yield "version", {"name": "Talos", "version": system.release}, pb.VersionSpec(name="Talos", version=system.release)


def _meta(system: Os) -> Iterator[Item]:
    for tag, value in sorted(system.machine.disk.meta.items()):
        yield f"0x{tag:02x}", {"value": value}, pb.MetaKeySpec(value=value)


def _manifests(system: Os) -> Iterator[Item]:
    """What Talos puts into the cluster, as its present config has it; the DaemonSets only."""
    if system.config is not None and system.config.control_plane:
        for number, (_, body) in enumerate(manifests.daemons(system.config)):
            name = f"1{number}-{body['metadata']['name']}"
            yield name, [body], pb.ManifestSpec(items=[yaml.safe_dump(body).encode()])


def _members(system: Os) -> Iterator[Item]:
    if system.config is None:
        return
    for other in (system, *lan(system.lab).peers(system)):
        kind = str(other.at("machine", "type"))
        value = {
            "nodeId": other.machine.spec.serial, "addresses": [other.address], "hostname": other.hostname,
            "machineType": kind, "operatingSystem": f"Talos ({other.release})",
        }  # fmt: skip
        message = pb.MemberSpec(
            node_id=other.machine.spec.serial, addresses=[ipaddress.ip_address(other.address).packed],
            hostname=other.hostname,
            machine_type=_TYPES[kind], operating_system=f"Talos ({other.release})",
        )  # fmt: skip
        yield other.hostname, value, message


def _etcd_member(system: Os) -> Iterator[Item]:
    if system.etcd is not None and system.etcd.running and system.etcd.member_id:
        member = f"{system.etcd.member_id:x}"
        yield "local", {"memberID": member}, pb.EtcdMemberSpec(member_id=member)


def _time(system: Os) -> Iterator[Item]:
    synced = system.standing("clock-not-synced") is None
    yield "node", {"synced": synced, "epoch": 1, "syncDisabled": False}, pb.TimeStatusSpec(synced=synced, epoch=1)


def _definitions(system: Os) -> Iterator[Item]:
    for name, kind in TYPES.items():
        plural, _, suffix = name.partition(".")
        singular = _singular(plural)
        short = [suffix.split(".")[0]]
        aliases = [singular.lower()]
        everything = [plural.lower(), *(f"{plural.lower()}.{part}" for part in short), *aliases, *_EXTRA.get(name, [])]
        columns = [pb.ResourceDefinitionSpec.PrintColumn(name=title, json_path=path) for title, path in kind.columns]
        message = pb.ResourceDefinitionSpec(
            resource_type=name, display_type=singular, default_namespace=kind.namespace, aliases=aliases,
            all_aliases=everything, print_columns=columns, sensitivity=int(kind.sensitive),
        )  # fmt: skip
        value = {
            "type": name,
            "displayType": singular,
            "defaultNamespace": kind.namespace,
            "aliases": aliases,
            "allAliases": everything,
        }
        yield name.lower(), value, message


def _singular(plural: str) -> str:
    return plural[:-2] if plural.endswith("ses") else plural.removesuffix("s")


_EXTRA = {
    "AddressStatuses.net.talos.dev": ["address", "addresses"],
    "ExtensionStatuses.runtime.talos.dev": ["extensions"],
    "HostnameStatuses.net.talos.dev": ["hostname"],
    "LinkStatuses.net.talos.dev": ["link", "links"],
    "MachineConfigs.config.talos.dev": ["mc"],
    "Services.v1alpha1.talos.dev": ["svc"],
    "ResourceDefinitions.meta.cosi.dev": ["rd", "api-resources"],
}
TYPES: dict[str, Kind] = {
    "MachineStatuses.runtime.talos.dev": Kind(
        "runtime", _machine_status, columns=(("Stage", "{.stage}"), ("Ready", "{.status.ready}"))
    ),
    "MachineTypes.config.talos.dev": Kind("config", _machine_type, columns=(("Type", "{}"),)),
    "MachineConfigs.config.talos.dev": Kind("config", _machine_config, sensitive=True),
    "HostnameStatuses.net.talos.dev": Kind("network", _hostname, columns=(("Hostname", "{.hostname}"),)),
    "Nodenames.kubernetes.talos.dev": Kind("k8s", _nodename, columns=(("Nodename", "{.nodename}"),)),
    "Disks.block.talos.dev": Kind(
        "runtime", _disks, columns=(("Size", "{.pretty_size}"), ("Transport", "{.transport}"))
    ),
    "SystemDisks.block.talos.dev": Kind("runtime", _system_disk, columns=(("Disk", "{.diskID}"),)),
    "LinkStatuses.net.talos.dev": Kind(
        "network", _links, columns=(("Oper State", "{.operationalState}"), ("Hw Addr", "{.hardwareAddr}"))
    ),
    "AddressStatuses.net.talos.dev": Kind(
        "network", _addresses, columns=(("Address", "{.address}"), ("Link", "{.linkName}"))
    ),
    "Services.v1alpha1.talos.dev": Kind(
        "runtime", _services, columns=(("Running", "{.running}"), ("Healthy", "{.healthy}"))
    ),
    "ExtensionStatuses.runtime.talos.dev": Kind(
        "runtime", _extensions, columns=(("Name", "{.metadata.name}"), ("Version", "{.metadata.version}"))
    ),
    "Versions.runtime.talos.dev": Kind("runtime", _version, columns=(("Version", "{.version}"),)),
    "MetaKeys.runtime.talos.dev": Kind("runtime", _meta, columns=(("Value", "{.value}"),)),
    "Manifests.kubernetes.talos.dev": Kind("controlplane", _manifests),
    "Members.cluster.talos.dev": Kind(
        "cluster",
        _members,
        columns=(("Hostname", "{.hostname}"), ("Machine Type", "{.machineType}"), ("Addresses", "{.addresses}")),
    ),
    "EtcdMembers.etcd.talos.dev": Kind("etcd", _etcd_member, columns=(("ID", "{.memberID}"),)),
    "TimeStatuses.v1alpha1.talos.dev": Kind("runtime", _time, columns=(("Synced", "{.synced}"),)),
    "ResourceDefinitions.meta.cosi.dev": Kind("meta", _definitions),
}
