"""First-boot preparation of Raspberry Pi OS: three files for cloud-init, and words for the kernel.

Images since 2 October 2025 have cloud-init, which reads `meta-data`, `user-data` and `network-config` from the boot
partition; they ship with templates of all three. The root file system takes the rest of the card by itself: the word
`resize` in their command line asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from providers.disk import cmdline
from providers.disk.wish import Network, Preparation
from providers.errors import FlashError

SYSTEM_PARTITION = False  # the image has its own
_UNIT = "/etc/systemd/system/promiscuous.service"


def files(
    preparation: Preparation, instance: str, existing: Callable[[str], bytes | None], what: str
) -> dict[str, bytes]:
    """The files of the boot partition, by name.

    Args:
        preparation: what the machine shall be.
        instance: a name that is new with each write; cloud-init runs once for each.
        existing: gives a file of the image.
        what: the image, for messages.

    Raises:
        FlashError: the image does not read such files.
    """
    if existing("user-data") is None:
        raise FlashError(
            f"{what}: has no user-data on its boot partition, so it would not read its settings; take Raspberry Pi OS "
            f"of October 2025 or later"
        )
    return {
        cmdline.FILE: cmdline.with_words(existing(cmdline.FILE), preparation.cmdline, what),
        "meta-data": _yaml({"instance_id": instance, "instance-id": instance, "dsmode": "local"}),
        "network-config": _yaml({"network": _network(preparation.network)}),
        "user-data": b"#cloud-config\n" + _yaml(_user_data(preparation)),
    }


def _user_data(preparation: Preparation) -> dict[str, Any]:
    data: dict[str, Any] = {
        "hostname": preparation.hostname,
        "manage_etc_hosts": True,
        "ssh_pwauth": False,
        "users": [
            {
                "name": preparation.user,
                "groups": "sudo",
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(preparation.keys),
            }
        ],
        "runcmd": [["systemctl", "enable", "--now", "ssh"]],
    }
    if preparation.network.promiscuous:
        data["write_files"] = [{"path": _UNIT, "content": _unit(preparation.network.interface)}]
        data["runcmd"].append(["systemctl", "enable", "--now", "promiscuous.service"])
    if preparation.read_only_root:
        data |= {"package_update": True, "packages": ["overlayroot"]}
        # The boot partition first: it can't be changed any more once the overlay is there.
        data["runcmd"] += [["raspi-config", "nonint", f"enable_{what}"] for what in ("bootro", "overlayfs")]
        data["power_state"] = {"mode": "reboot", "condition": True}
    return data


def _network(network: Network) -> dict[str, Any]:
    card: dict[str, Any] = {"dhcp4": not network.address}
    if network.address:
        card["addresses"] = [network.address]
    if network.gateway:
        card["routes"] = [{"to": "default", "via": network.gateway}]
    if network.nameservers:
        card["nameservers"] = {"addresses": list(network.nameservers)}
    return {"version": 2, "ethernets": {network.interface: card}}


def _unit(interface: str) -> str:
    return (
        "[Unit]\nDescription=Take packets for other MAC addresses\nAfter=network-online.target\n"
        "Wants=network-online.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart=/usr/sbin/ip link set {interface} promisc on\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def _yaml(value: object) -> bytes:
    return yaml.safe_dump(value, sort_keys=False, width=4096).encode()
