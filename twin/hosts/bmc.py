"""What the boxes' BMCs tell: sushy-tools' emulator sends a machine whenever its power changes (`external_notifier`)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from twin.hosts.lab import Lab

_NETWORK = ("Pxe", "UefiHttp")


async def listen(lab: Lab) -> web.AppRunner:
    """Listen where the lab file says, if it does."""

    async def told(request: web.Request) -> web.Response:
        return web.Response(status=await follow(lab, await request.json()))

    application = web.Application()
    application.router.add_put("/{anywhere:.*}", told)
    runner = web.AppRunner(application)
    await runner.setup()
    if lab.spec.bmc:
        host, _, port = lab.spec.bmc.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
    return runner


async def follow(lab: Lab, system: dict[str, Any]) -> int:
    """Switch a box as its BMC has just done; what it has already is not done again. Gives an HTTP status."""
    box = next((one for one in lab.boxes.values() if one.spec.uuid == system.get("uuid")), None)
    if box is None:
        return 404
    power = system.get("power_state")
    if power == "On" and not box.on:
        await box.boot(network=system.get("boot_device") in _NETWORK)
    elif power == "Off" and box.on:
        await box.cut()
    return 200
