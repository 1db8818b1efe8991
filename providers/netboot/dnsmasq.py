"""dnsmasq's file: DHCP beside the router's (proxy) or in its place (full), and TFTP for iPXE itself.

A firmware loads iPXE over TFTP, and iPXE, which asks again and says that it is iPXE, is given the first script over
HTTP. Where every machine that may boot is known, all others are left alone and go on to their disks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from providers.netboot.plan import Machine, Mode, Pool, Service

ENTRY = "boot.ipxe"
_IPXE = "ipxe"
# DHCP option 93: what a firmware is. UEFI on x64 says 7 (that is what real ones send) or 9.
_ARCHITECTURES = (("bios", (0,)), ("efi64", (7, 9)), ("arm64", (11,)))
_OVER_HTTP = (("http64", 16), ("httparm64", 19))
_PXE_NAMES = (("bios", ("x86PC",)), ("efi64", ("X86-64_EFI", "BC_EFI")), ("arm64", ("ARM64_EFI",)))


def config(service: Service, pools: Sequence[Pool]) -> str:
    """The whole file; the same arguments always give the same text."""
    lines = [
        "# Written by homelab; changes are lost.",
        "port=0",
        *([f"interface={service.interface}"] if service.interface else [f"listen-address={service.address}"]),
        "bind-interfaces",
        "log-dhcp",
        "log-facility=-",
        "pid-file=",
        "enable-tftp",
        "tftp-no-fail",
        f"tftp-root={service.tftp_root}",
        f"dhcp-match=set:{_IPXE},175",
        *_hosts(service, pools),
        *(_proxy(service, pools) if service.mode is Mode.PROXY else _full(service, pools)),
    ]
    return "\n".join(lines) + "\n"


def takes_everyone(pools: Iterable[Pool]) -> bool:
    """Whether machines boot whose MAC address nobody wrote down."""
    return any(pool.approval is not None or pool.addresses for pool in pools)


def pool_tag(pool: Pool) -> str:
    """The tag that dnsmasq gives a pool's machines."""
    return f"pool-{pool.name}"


def _tag(pool: Pool, tag: str) -> str:
    return f"tag-{pool.name}-{tag}"


def _hosts(service: Service, pools: Sequence[Pool]) -> Iterator[str]:
    for pool in pools:
        for machine in pool.machines:
            yield f"dhcp-host={','.join(_host(service, pool, machine))}"


def _host(service: Service, pool: Pool, machine: Machine) -> Iterator[str]:
    yield machine.mac
    yield f"set:{pool_tag(pool)}"
    yield from (f"set:{_tag(pool, tag)}" for tag in machine.tags)
    if service.mode is Mode.FULL:
        if machine.address is not None:
            yield str(machine.address)
        yield machine.name


def _entry(service: Service) -> str:
    return f"{service.url}/{ENTRY}"


def _proxy(service: Service, pools: Sequence[Pool]) -> Iterator[str]:
    yield f"dhcp-range={service.subnet.network_address},proxy,{service.subnet.netmask}"
    if not takes_everyone(pools):
        yield "dhcp-ignore=tag:!known"
    for kind, names in _PXE_NAMES:
        loader = getattr(service.loaders, kind)
        for name in names if loader else ():
            yield f'pxe-service=tag:!{_IPXE},{name},"iPXE",{loader}'
            yield f'pxe-service=tag:{_IPXE},{name},"homelab",{_entry(service)}'
    yield f"dhcp-boot=tag:{_IPXE},{_entry(service)}"


def _full(service: Service, pools: Sequence[Pool]) -> Iterator[str]:
    yield "dhcp-authoritative"
    yield f"dhcp-range={service.first},{service.last},{service.subnet.netmask},{service.lease}"
    for pool in pools:
        if pool.addresses:
            yield f"dhcp-range=set:{pool_tag(pool)},{pool.first},{pool.last},{service.subnet.netmask},{service.lease}"
    yield f"dhcp-option=option:router,{service.gateway}" if service.gateway else "dhcp-option=option:router"
    if service.nameservers:
        yield f"dhcp-option=option:dns-server,{','.join(map(str, service.nameservers))}"
    yield from _options(pools)
    yield from _boot(service, "" if takes_everyone(pools) else "tag:known,")


def _options(pools: Sequence[Pool]) -> Iterator[str]:
    for pool in pools:
        for option, value in sorted(pool.options.items()):
            yield f"dhcp-option=tag:{pool_tag(pool)},{option},{value}"
        for tag, options in sorted(pool.tags.items()):
            for option, value in sorted(options.items()):
                yield f"dhcp-option=tag:{_tag(pool, tag)},{option},{value}"


def _boot(service: Service, whom: str) -> Iterator[str]:
    for kind, numbers in _ARCHITECTURES:
        for number in numbers:
            yield f"dhcp-match=set:{kind},option:client-arch,{number}"
        if loader := getattr(service.loaders, kind):
            yield f"dhcp-boot={whom}tag:{kind},tag:!{_IPXE},{loader}"
    for (kind, number), loader in zip(_OVER_HTTP, (service.loaders.efi64, service.loaders.arm64), strict=True):
        # A firmware that boots over HTTP takes an answer only from who calls itself a client of HTTP as well.
        if not loader:
            continue
        yield f"dhcp-match=set:{kind},option:client-arch,{number}"
        yield f"dhcp-option-force=tag:{kind},60,HTTPClient"
        yield f"dhcp-boot={whom}tag:{kind},tag:!{_IPXE},{service.url}/tftp/{loader}"
    yield f"dhcp-boot={whom}tag:{_IPXE},{_entry(service)}"
