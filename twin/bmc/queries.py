"""What `GET /api/bmc?opt=..&type=..` does, one function a type (facts A5)."""

import io
import json
import tarfile
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from twin.bmc import answers
from twin.bmc.answers import BadRequest, Dropped, Failure
from twin.bmc.daemon import Daemon
from twin.bmc.flash import NO_USB
from twin.board import SLOTS, Usb, UsbMode

Query = Mapping[str, str]
Handler = Callable[[Daemon, Query], Awaitable[web.Response]]


class PlainError(Exception):
    """An error without the envelope (facts A4)."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def slot(query: Query) -> int:
    """The slot (from 1) of a zero-based `node=`; the number is cut to eight bits before its range is checked."""
    number = _number(query, "node") & 0xFF
    if number > 3:
        raise BadRequest("Parameter `node` is out of range 0..3 of node IDs")
    return number + 1


async def answer(daemon: Daemon, query: Query, body: bytes, method: str) -> web.Response:
    """The answer to one query. Raises BadRequest, Failure, Dropped or PlainError."""
    if "opt" not in query:
        raise BadRequest("Missing `opt` parameter")
    if "type" not in query:
        raise BadRequest("Missing `type` parameter")
    opt, kind = query["opt"], query["type"]
    if method == "POST" and (opt, kind) == ("set", "node_info") and _modern(daemon):
        return _set_node_info(daemon, body)
    handler = _HANDLERS.get((opt, kind))
    if handler is None or (kind in _SINCE_2_1 and not _modern(daemon)):
        raise BadRequest(f"Invalid `type` parameter {kind}")
    return await handler(daemon, query)


def other(daemon: Daemon) -> list[dict[str, str]]:
    """The legacy information record."""
    spec = daemon.board.spec
    base = {"api": "1.1", "buildtime": "2024-11-13 10:31:50-00:00", "ip": str(spec.address), "mac": "02:00:00:ff:00:01"}
    return [{**base, "buildroot": '"Buildroot 2024.05.1"', **_versions(daemon)}]


async def _get_power(daemon: Daemon, query: Query) -> web.Response:
    bits = {f"node{slot}": str(int(on)) for slot, on in daemon.board.power.items()}
    if daemon.lab.faults.active("power-lies", board=daemon.board.name):
        bits = dict.fromkeys(bits, "Unknown")
    return answers.ok([bits])


async def _set_power(daemon: Daemon, query: Query) -> web.Response:
    wishes = {}
    for number in SLOTS:
        value = query.get(f"node{number}")
        if value not in (None, "0", "1"):
            raise BadRequest(f"Invalid value `{value}` for parameter `node{number}`")
        if value is not None:
            wishes[number] = value == "1"
    if not wishes:
        raise Failure("Failed to set power state: Condition failed: `mask != 0` (0 vs 0)")
    for number, on in wishes.items():
        await daemon.lab.clock.sleep(daemon.lab.times.power_s)
        daemon.board.set_power(number, on)
    return answers.ok()


async def _reset(daemon: Daemon, query: Query) -> web.Response:
    """Off, a second, on; a node that was off is on afterwards, and the stored bit does not know."""
    number = slot(query)
    daemon.board.switch(number, False)
    await daemon.lab.clock.sleep(daemon.lab.times.reset_s)
    daemon.board.switch(number, True)
    return answers.ok()


async def _get_usb(daemon: Daemon, query: Query) -> web.Response:
    usb, bus = daemon.board.usb, "Usb hub" if daemon.board.spec.revision == "v2.5" else "Single bus"
    route = "Bmc" if usb.to_bmc else "AlternativePort"
    return answers.ok(
        [{"mode": usb.mode.name.capitalize(), "node": f"Node {usb.slot}", "route": route, "bus_type": bus}]
    )


async def _set_usb(daemon: Daemon, query: Query) -> web.Response:
    number = slot(query)
    mode = _number(query, "mode")
    if mode & 3 == 3:
        raise Dropped
    daemon.board.usb = Usb(UsbMode(mode & 3), number, to_bmc=bool(mode & 4))
    return answers.ok()


async def _usb_boot(daemon: Daemon, query: Query) -> web.Response:
    daemon.board.pins.add(slot(query))
    return answers.ok()


async def _clear_usb_boot(daemon: Daemon, query: Query) -> web.Response:
    daemon.board.pins.clear()
    return answers.ok()


async def _node_to_msd(daemon: Daemon, query: Query) -> web.Response:
    number = slot(query)
    daemon.board.to_usb(number)
    await daemon.lab.clock.sleep(daemon.lab.times.usb_boot_s)
    daemon.board.pins.discard(number)
    if number not in daemon.board.machines:
        raise Failure(f"Failed to {NO_USB}")
    return answers.ok()


async def _get_uart(daemon: Daemon, query: Query) -> web.Response:
    machine = daemon.board.machines.get(slot(query))
    raw = machine.uart_bytes() if machine else b""
    return answers.envelope([{"uart": raw.decode("utf-8", errors="replace")}])


async def _set_uart(daemon: Daemon, query: Query) -> web.Response:
    number = slot(query)
    if "cmd" not in query:
        raise BadRequest("Missing `cmd` parameter")
    if number in daemon.board.machines:
        daemon.board.machines[number].uart_input(query["cmd"])
    return answers.ok()


async def _get_cooling(daemon: Daemon, query: Query) -> web.Response:
    return answers.ok([{"device": "system fan", "speed": daemon.board.fan_speed, "max_speed": 4}])


async def _set_cooling(daemon: Daemon, query: Query) -> web.Response:
    if "device" not in query:
        raise BadRequest("Missing `device` parameter")
    speed = _number(query, "speed")
    if query["device"] != "system fan" or not 0 <= speed <= 4:
        raise Failure(f"Failed to set cooling state: {query['device']} {speed}")
    daemon.board.fan_speed = speed
    return answers.ok()


async def _about(daemon: Daemon, query: Query) -> web.Response:
    base = {"api": "1.1", "buildtime": "2024-11-13 10:31:50-00:00", "buildroot": '"Buildroot 2024.05.1"'}
    board = {"hostname": "turingpi", "board_model": "Turing Pi 2", "board_revision": daemon.board.spec.revision}
    return answers.ok({**base, **_versions(daemon), **board})


async def _info(daemon: Daemon, query: Query) -> web.Response:
    ip = [{"device": "br0", "ip": str(daemon.board.spec.address), "mac": "02:00:00:ff:00:01"}]
    storage = [{"name": "BMC", "total_bytes": 60_000_000, "bytes_free": 41_000_000}]
    return answers.ok({"ip": ip, "storage": storage})


async def _other(daemon: Daemon, query: Query) -> web.Response:
    return answers.ok(other(daemon))


async def _get_node_info(daemon: Daemon, query: Query) -> web.Response:
    return answers.ok([_node_record(daemon, number) for number in SLOTS])


def _node_record(daemon: Daemon, number: int) -> dict[str, object]:
    known = daemon.board.node_info[number]
    return {
        "name": known.get("name"),
        "module_name": known.get("module_name"),
        "power_on_time": 1 if daemon.board.power[number] else None,
        "uart_baud": known.get("uart_baud", 115200),
    }


def _set_node_info(daemon: Daemon, body: bytes) -> web.Response:
    try:
        asked = json.loads(body)
        changes = {int(key.removeprefix("Node")): dict(value) for key, value in asked.items()}
        known = [daemon.board.node_info[number] for number in changes]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise PlainError(f"Json deserialize error: {error}", 400) from None
    for record, change in zip(known, changes.values(), strict=True):
        record.update(change)
    return web.Response()


async def _nodeinfo(daemon: Daemon, query: Query) -> web.Response:
    return answers.ok([{f"node{number}": 0 for number in SLOTS}])


async def _not_implemented(daemon: Daemon, query: Query) -> web.Response:
    raise Failure("not implemented", 501)


async def _sdcard(daemon: Daemon, query: Query) -> web.Response:
    raise BadRequest("no SD card")


async def _usb_node1(daemon: Daemon, query: Query) -> web.Response:
    if daemon.board.spec.revision != "v2.5":
        raise Failure("Failed to access usb_node1: not supported on this board")
    return answers.ok(False) if query["opt"] == "get" else answers.ok()


async def _network(daemon: Daemon, query: Query) -> web.Response:
    daemon.lab.spawn(daemon.network_down(3), f"network of {daemon.board.name}")
    return answers.ok()


async def _reboot(daemon: Daemon, query: Query) -> web.Response:
    daemon.lab.spawn(daemon.reboot(), f"reboot of {daemon.board.name}")
    return answers.ok()


async def _reload(daemon: Daemon, query: Query) -> web.Response:
    daemon.lab.spawn(daemon.reload(), f"reload of {daemon.board.name}")
    return answers.ok()


def backup() -> web.Response:
    """`/api/bmc/backup`: an archive of the BMC's settings, here of one empty file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("etc/hostname"))
    return web.Response(body=buffer.getvalue(), content_type="application/gzip")


def _versions(daemon: Daemon) -> dict[str, str]:
    """Firmware 2.0 tells one version; 2.1.0 bmcd's, with the firmware's as build_version; later ones the reverse."""
    firmware = daemon.board.spec.firmware.removeprefix("v")
    if daemon.board.spec.version < (2, 1):
        return {"version": firmware}
    if firmware == "2.1.0":
        return {"version": "2.3.4", "build_version": f"v{firmware}"}
    return {"version": f'"{firmware}"', "bmcd_version": "2.3.7"}


def _modern(daemon: Daemon) -> bool:
    return daemon.board.spec.version >= (2, 1)


def _number(query: Query, key: str) -> int:
    if key not in query:
        raise BadRequest(f"Missing `{key}` parameter")
    try:
        return int(query[key])
    except ValueError:
        raise BadRequest(f"Parameter `{key}` is not a number") from None


_SINCE_2_1 = {"cooling", "node_info", "usb_node1", "reload"}
_HANDLERS: dict[tuple[str, str], Handler] = {
    ("get", "power"): _get_power,
    ("set", "power"): _set_power,
    ("set", "reset"): _reset,
    ("get", "usb"): _get_usb,
    ("set", "usb"): _set_usb,
    ("set", "usb_boot"): _usb_boot,
    ("set", "clear_usb_boot"): _clear_usb_boot,
    ("set", "node_to_msd"): _node_to_msd,
    ("get", "uart"): _get_uart,
    ("set", "uart"): _set_uart,
    ("get", "cooling"): _get_cooling,
    ("set", "cooling"): _set_cooling,
    ("get", "about"): _about,
    ("get", "info"): _info,
    ("get", "other"): _other,
    ("get", "node_info"): _get_node_info,
    ("get", "nodeinfo"): _nodeinfo,
    ("set", "nodeinfo"): _not_implemented,
    ("get", "sdcard"): _sdcard,
    ("set", "sdcard"): _not_implemented,
    ("get", "usb_node1"): _usb_node1,
    ("set", "usb_node1"): _usb_node1,
    ("set", "network"): _network,
    ("set", "reboot"): _reboot,
    ("set", "reload"): _reload,
}
