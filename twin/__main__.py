"""`python -m twin`: start, look at, disturb and end a digital twin."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from twin import client
from twin.faults import table

_HERE = Path(__file__).parent
_LAB = _HERE / "labs" / "four.yaml"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 is success, 1 a failure that was said in one line, 2 a wrong command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    asked, rest = _parser().parse_known_args(arguments)
    asked.arguments, asked.rest = arguments, rest
    if rest and asked.run is not _fault:
        _parser().error(f"unknown: {' '.join(rest)}")
    try:
        return int(asked.run(asked))
    except (client.NotRunning, client.Refused, OSError) as error:
        for line in str(error).splitlines():
            print(f"twin: {line}", file=sys.stderr)
        return 1


def _up(asked: argparse.Namespace) -> int:
    if not asked.lab.exists():
        raise client.Refused(f"there is no lab file {asked.lab}")
    asked.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not asked.foreground:
        print(client.start(asked.state, asked.arguments))
        return 0
    if client.running(asked.state):
        raise client.Refused(f"a twin runs already on {asked.state}")
    from twin import running  # noqa: PLC0415 - the servers' libraries, which no other command needs

    running.serve(asked.lab, asked.scale, asked.state.resolve(), asked.tools.resolve() if asked.tools else None)
    return 0


def _status(asked: argparse.Namespace) -> int:
    status = client.ask(asked.state, {"command": "status"})
    if asked.json:
        print(json.dumps(status, indent=2))
        return 0
    print(f"lab {status['lab']}, pid {status['pid']}, up {status['up_s']} s, scale {status['scale']}")
    print(f"factory {status['factory']}")
    for name, board in status["boards"].items():
        print(f"{name}  {board['url']}  {board['firmware']}  {'up' if board['up'] else 'down'}")
        for module, state in board["modules"].items():
            power = "on" if state["power"] else "off"
            print(
                f"  {state['slot']} {module:<6} {state['address']:<15} {power:<4} {state['phase']:<8} {state['disk']}"
            )
    for fault in status["faults"]:
        print(f"fault {fault['name']} node={fault['node']} board={fault['board']} times={fault['times']}")
    return 0


def _fault(asked: argparse.Namespace) -> int:
    if asked.list:
        for kind in table():
            params = " ".join(f"--{param.replace('_', '-')}" for param in kind.params)
            print(f"{kind.name:<20} {kind.line:<9} {kind.mode:<9} {kind.meaning}{'  ' + params if params else ''}")
        return 0
    if asked.clear:
        print(client.ask(asked.state, {"command": "clear", "name": asked.name}))
        return 0
    place = {"node": asked.node, "board": asked.board, "times": asked.times, "at": asked.at}
    print(
        client.ask(
            asked.state, {"command": "fault", "fault": {"name": asked.name, **place, "params": _params(asked.rest)}}
        )
    )
    return 0


def _params(rest: list[str]) -> dict[str, Any]:
    """`--after-bytes 10 --type power` as {"after_bytes": 10, "type": "power"}."""
    if len(rest) % 2 or not all(word.startswith("--") for word in rest[::2]):
        raise client.Refused(f"parameters are pairs such as --after-bytes 1000, not: {' '.join(rest)}")
    keys = [word.removeprefix("--").replace("-", "_") for word in rest[::2]]
    values = [float(word) if word.replace(".", "", 1).isdigit() else word for word in rest[1::2]]
    return dict(zip(keys, values, strict=True))


def _down(asked: argparse.Namespace) -> int:
    print(client.stop(asked.state))
    if asked.clean and asked.state.exists():
        shutil.rmtree(asked.state)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m twin", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state", type=Path, default=Path(".homelab/twin/four"), help="state folder [%(default)s]")
    up = commands.add_parser("up", parents=[common], help="start a lab and wait until it listens")
    up.add_argument("--lab", type=Path, default=_LAB, help="lab file")
    up.add_argument("--scale", type=float, help="real seconds for a device second; default: the lab file's")
    up.add_argument("--tools", type=Path, help="folder with bin/etcd, bin/kube-apiserver, ...")
    up.add_argument("--foreground", action="store_true", help="stay in this process and log to the terminal")
    up.set_defaults(run=_up)
    status = commands.add_parser("status", parents=[common], help="what runs")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    down = commands.add_parser("down", parents=[common], help="end all of it; disks and power bits stay")
    down.add_argument("--clean", action="store_true", help="remove the state folder too")
    down.set_defaults(run=_down)
    _fault_parser(commands.add_parser("fault", parents=[common], help="arm a fault, or --list them"))
    return parser


def _fault_parser(fault: argparse.ArgumentParser) -> None:
    fault.add_argument("name", nargs="?")
    fault.add_argument("--list", action="store_true", help="print the table of all faults")
    fault.add_argument("--clear", action="store_true", help="disarm NAME, or all")
    fault.add_argument("--node", help="only for this module")
    fault.add_argument("--board", help="only for this board")
    fault.add_argument("--times", type=int, default=1, help="how often [%(default)s]")
    fault.add_argument("--at", metavar="EVENT", help="arm it when this event is next seen for that node or board")
    fault.epilog = "A fault's own parameters follow as words: --after-bytes 1000"
    fault.set_defaults(run=_fault)


if __name__ == "__main__":
    sys.exit(main())
