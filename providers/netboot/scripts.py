"""The iPXE scripts: one that every machine begins with, one for each machine, and one for those that nobody knows.

The first script looks for one for the machine's MAC address, then for its UUID, then for its address, then for
everyone's. No script ends without saying what comes next: a failed step waits and begins anew, so that a boot service
that restarts is waited for, and a machine that is nobody's goes on to its disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from providers.netboot.dnsmasq import ENTRY
from providers.netboot.plan import Approval, Image, Machine, Pool, Service

AGAIN_S = 15  # between two tries
APPROVAL_S = 30  # between two looks whether somebody approved
TIMEOUT_MS = 20_000
EVERYONE = "default.ipxe"
KERNEL, INITRAMFS = "kernel", "initramfs"
ALIVE, WAITING = "alive", "waiting"
CONFIG_FILE = "/homelab.config"  # where a system finds its config that can't fetch it; iPXE makes no folders
CONFIG = "{config}"  # in an image's arguments: where the machine's config is served


def tree(service: Service, pools: Sequence[Pool]) -> dict[str, str]:
    """Every script, by its path under the HTTP root; the same arguments always give the same texts."""
    found = {ENTRY: entry(service), ALIVE: "ok\n"}
    for pool in pools:
        for machine in pool.machines:
            text = boots(service, pool, machine.config or pool.config, machine.name)
            found[by_mac(machine)] = text
            if machine.uuid:
                found[f"uuid/{machine.uuid.lower()}.ipxe"] = text
        for address in pool.addresses:
            found[f"ip/{address}.ipxe"] = boots(service, pool, pool.config, str(address))
        if pool.approval is Approval.MANUAL:
            found[EVERYONE] = waits(service)
        elif pool.approval is Approval.AUTOMATIC:
            found[EVERYONE] = boots(service, pool, pool.config, "a machine that nobody named")
    return dict(sorted(found.items()))


def by_mac(machine: Machine) -> str:
    """The path of a machine's own script."""
    return f"mac/{machine.mac.replace(':', '-')}.ipxe"


def entry(service: Service) -> str:
    """The first script."""
    return f"""\
#!ipxe
echo homelab boot service {service.address}: ${{netX/mac}} ${{netX/ip}} ${{uuid}}
set base {service.url}
imgfetch --timeout {TIMEOUT_MS} --name own ${{base}}/mac/${{netX/mac:hexhyp}}.ipxe && goto own ||
imgfetch --timeout {TIMEOUT_MS} --name own ${{base}}/uuid/${{uuid}}.ipxe && goto own ||
imgfetch --timeout {TIMEOUT_MS} --name own ${{base}}/ip/${{netX/ip}}.ipxe && goto own ||
imgfetch --timeout {TIMEOUT_MS} --name own ${{base}}/{EVERYONE} && goto own ||
imgfetch --timeout {TIMEOUT_MS} --name alive ${{base}}/{ALIVE} || goto again
echo Nothing is served for this machine; it goes on to its next boot device
exit 1
:own
chain --replace own || goto again
:again
echo The boot service does not answer; trying again in {AGAIN_S} s
sleep {AGAIN_S}
chain --replace --timeout {TIMEOUT_MS} {service.url}/{ENTRY} || goto again
"""


def boots(service: Service, pool: Pool, config: str, whose: str) -> str:
    """The script of a machine that boots its pool's image.

    Its config is named in the kernel's arguments, for a system that fetches it by itself (Talos); else it is loaded
    here and lies in the initramfs, for one that can't.
    """
    base = f"{service.url}/images/{pool.image.name}"
    words = " ".join((f"initrd={INITRAMFS}", *_arguments(service, pool.image, config)))
    named = any(CONFIG in word for word in pool.image.cmdline)
    load = f"initrd --timeout {TIMEOUT_MS} --name config {service.url}/{config} {CONFIG_FILE} mode=600 || goto again\n"
    return f"""\
#!ipxe
echo homelab pool {pool.name}: {whose} boots {pool.image.name}
kernel --timeout {TIMEOUT_MS} {base}/{KERNEL} {words} || goto again
initrd --timeout {TIMEOUT_MS} --name {INITRAMFS} {base}/{INITRAMFS} || goto again
{load if config and not named else ""}boot || goto again
:again
echo {pool.image.name} could not be loaded; trying again in {AGAIN_S} s
sleep {AGAIN_S}
imgfree
chain --replace --timeout {TIMEOUT_MS} {service.url}/{ENTRY} || goto again
"""


def waits(service: Service) -> str:
    """The script of a machine that nobody knows: it shows who it is, and looks again until somebody approves.

    It asks for a file that is nowhere, so that every HTTP server's log tells who waits.
    """
    who = "${netX/mac:hexhyp}/${uuid}/${serial:uristring}/${product:uristring}"
    return f"""\
#!ipxe
echo This machine is in no pool: MAC address ${{netX/mac}}, UUID ${{uuid}}, serial number ${{serial}}
echo Write its MAC address under a pool's machines and run `homelab up`; it looks again every {APPROVAL_S} s
imgfetch --timeout {TIMEOUT_MS} {service.url}/{WAITING}/{who} || echo Waiting
sleep {APPROVAL_S}
chain --replace --timeout {TIMEOUT_MS} {service.url}/{ENTRY} || goto again
:again
echo The boot service does not answer; trying again in {AGAIN_S} s
sleep {AGAIN_S}
chain --replace --timeout {TIMEOUT_MS} {service.url}/{ENTRY} || goto again
"""


def _arguments(service: Service, image: Image, config: str) -> list[str]:
    """The kernel's arguments; those that name the config are left out where there is none."""
    if not config:
        return [word for word in image.cmdline if CONFIG not in word]
    return [word.replace(CONFIG, f"{service.url}/{config}") for word in image.cmdline]
