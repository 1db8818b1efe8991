"""First-boot preparation of Alpine: the overlay archive that its initramfs unpacks over the system in RAM.

A script in it runs once: it makes the card's second partition the system disk and reboots from there. If it fails, the
machine stays up in RAM, with SSH, and says why in LOG.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Callable
from ipaddress import IPv4Interface

from providers.disk import cmdline
from providers.disk.wish import Network, Preparation
from providers.errors import FlashError

SYSTEM_PARTITION = True
LOG = "/var/log/first-boot.log"
_PACKAGES = ("alpine-base", "chrony", "doas", "e2fsprogs", "openssh")
_SERVICES = {"boot": ("networking",), "default": ("chronyd", "local", "sshd")}
_MIRROR = "https://dl-cdn.alpinelinux.org/alpine"
_RELEASE = re.compile(r"(\d+\.\d+)(?:\.\d+)?")
_START = "etc/local.d/first-boot.start"


def files(
    preparation: Preparation, instance: str, existing: Callable[[str], bytes | None], what: str
) -> dict[str, bytes]:
    """The files of the boot partition, by name. For the arguments, see `raspberry.files`.

    Raises:
        FlashError: it is no image of Alpine.
    """
    found = _RELEASE.search((existing(".alpine-release") or b"").decode("utf-8", "replace"))
    if found is None:
        raise FlashError(f"{what}: has no .alpine-release on its boot partition, so it is no image of Alpine")
    return {
        cmdline.FILE: cmdline.with_words(existing(cmdline.FILE), preparation.cmdline, what),
        f"{preparation.hostname}.apkovl.tar.gz": _overlay(preparation, found[1]),
    }


def _overlay(preparation: Preparation, release: str) -> bytes:
    """The archive; the same for the same preparation, byte by byte."""
    raw = io.BytesIO()
    keys = "".join(f"{key}\n" for key in preparation.keys)
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, "etc/.default_boot_services", "")
        _add(archive, "etc/hostname", f"{preparation.hostname}\n")
        _add(archive, "etc/hosts", f"127.0.0.1 {preparation.hostname} localhost\n::1 localhost\n")
        _add(archive, "etc/network/interfaces", interfaces(preparation.network))
        if preparation.network.nameservers:
            _add(archive, "etc/resolv.conf", "".join(f"nameserver {one}\n" for one in preparation.network.nameservers))
        _add(archive, "etc/apk/world", "".join(f"{name}\n" for name in _PACKAGES))
        _add(
            archive, "etc/apk/repositories", "".join(f"{_MIRROR}/v{release}/{part}\n" for part in ("main", "community"))
        )
        _add(archive, "etc/doas.d/wheel.conf", "permit nopass :wheel\n", 0o600)
        _add(archive, _START, script(preparation), 0o755)
        for level, services in _SERVICES.items():
            for service in services:
                _link(archive, f"etc/runlevels/{level}/{service}", f"/etc/init.d/{service}")
        _folder(archive, "root", 0o700)
        _folder(archive, "root/.ssh", 0o700)
        _add(archive, "root/.ssh/authorized_keys", keys, 0o600)
    return gzip.compress(raw.getvalue(), mtime=0)


def interfaces(network: Network) -> str:
    """`/etc/network/interfaces`."""
    name = network.interface
    lines = ["auto lo", "iface lo inet loopback", "", f"auto {name}"]
    if network.address:
        address = IPv4Interface(network.address)
        lines += [f"iface {name} inet static", f"\taddress {address.ip}", f"\tnetmask {address.netmask}"]
        lines += [f"\tgateway {network.gateway}"] if network.gateway else []
    else:
        lines.append(f"iface {name} inet dhcp")
    if network.promiscuous:
        lines.append("\tup ip link set $IFACE promisc on")
    return "\n".join(lines) + "\n"


def script(preparation: Preparation) -> str:
    """What runs on the first boot, as root."""
    words = [*preparation.cmdline, *(["overlaytmpfs=yes"] if preparation.read_only_root else [])]
    return _SCRIPT.format(user=preparation.user, log=LOG, start=_START, options=" ".join(["console=tty1", *words]))


_SCRIPT = """\
#!/bin/sh
# Makes the card's second partition the system disk, once.
exec >>{log} 2>&1
set -eux
awk '$2 == "/" && $3 != "tmpfs" {{ found = 1 }} END {{ exit !found }}' /proc/mounts && exit 0
boot=$(awk '$2 ~ "^/media/" && $3 == "vfat" {{ print $1; exit }}' /proc/mounts)
media=$(awk '$2 ~ "^/media/" && $3 == "vfat" {{ print $2; exit }}' /proc/mounts)
system="${{boot%1}}2"

if ! id {user}; then
    adduser -D {user}
    addgroup {user} wheel
    echo '{user}:*' | chpasswd -e # no password, and not locked either: sshd refuses locked users
fi
mkdir -p /home/{user}/.ssh
cp /root/.ssh/authorized_keys /home/{user}/.ssh/
chmod -R go= /home/{user}/.ssh
chown -R {user}:{user} /home/{user}

mkfs.ext4 -q -F -L system "$system"
mount -t ext4 "$system" /mnt
mkdir -p /mnt/boot
mount -o remount,rw "$media"
mount --bind "$media" /mnt/boot
KERNELOPTS='{options}' setup-disk -m sys /mnt
mkdir -p /mnt/home /mnt/root
cp -a /home/{user} /mnt/home/
cp -a /root/.ssh /mnt/root/
rm -f /mnt/{start}
sync
umount /mnt/boot /mnt
reboot
"""


def _add(archive: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    content = text.encode()
    item = tarfile.TarInfo(name)
    item.size, item.mode = len(content), mode
    archive.addfile(item, io.BytesIO(content))


def _folder(archive: tarfile.TarFile, name: str, mode: int) -> None:
    item = tarfile.TarInfo(name)
    item.type, item.mode = tarfile.DIRTYPE, mode
    archive.addfile(item)


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    item = tarfile.TarInfo(name)
    item.type, item.linkname, item.mode = tarfile.SYMTYPE, target, 0o777
    archive.addfile(item)
