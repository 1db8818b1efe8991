"""`homelab twin-of`: a twin of a real lab, written from its settings alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

import settings
from cli import stacks, twin_of_secrets, words
from cli.options import Json
from cli.stacks import Stack
from cli.twin_of_hardware import hardware
from cli.twin_of_notes import Notes, compared, read
from cli.twin_of_settings import NETWORK, PREFIX, served, translated
from providers.errors import RefusedError, UserError
from settings import yamlfile

CHARTS = Path("twin") / "charts"
ORIGIN = "# Written by `homelab twin-of"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(:[A-Za-z][A-Za-z0-9_./-]*)*\Z")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})

Real = Annotated[str, typer.Argument(help="The real lab's stack.")]


@dataclass(frozen=True)
class Written:
    """A twin's two files.

    Attributes:
        stack: the twin's name.
        settings: text of its settings file.
        hardware: content of its lab file.
        notes: what of the real settings it doesn't have.
    """

    stack: str
    settings: str
    hardware: Mapping[str, Any]
    notes: Notes


def command(stack: Real = "homelab", as_json: Json = False) -> None:
    """Write the settings of a twin of a real lab: the same nodes, boards and platform on simulated hardware.

    It needs no secret and reaches no lab: secrets have stand-ins that protect nothing. Written anew from changed
    settings, it is what the changed lab would be, to be previewed against the state of the former one.
    """
    real = stacks.find(stack)
    made = of(real, since=_since(Stack(name_of(stack), real.root)))
    twin = save(made, real.root)
    if as_json:
        files = [str(path.relative_to(real.root)) for path in (twin.settings_file, twin.lab_file)]
        print(json.dumps({"stack": made.stack, "files": files, "notes": made.notes.lines()}, indent=2))
        return
    for note in made.notes.lines():
        words.say(note)
    words.say(f"wrote {twin.settings_file.name} and {twin.lab_file.relative_to(real.root)}")
    words.say(f"`homelab up --stack {twin.name}` makes it run, `homelab down --stack {twin.name}` ends it")


def name_of(real: str) -> str:
    """What the twin of a stack is called."""
    return f"{real}-twin"


def of(
    real: Stack,
    before: Mapping[str, Any] | None = None,
    name: str | None = None,
    network: int = NETWORK,
    since: Notes | None = None,
) -> Written:
    """The twin of a real lab.

    Args:
        real: whose.
        before: see `cli.twin_of_hardware.hardware`.
        name: the twin's; by default that of the real one with `-twin`.
        network: see `cli.twin_of_settings.Translation`.
        since: the notes of a twin that is there already, to be changed; None for one that is made now.

    Raises:
        UserError: the settings are wrong, have no nodes on boards, or speak of a twin already.
    """
    if real.is_twin:
        raise UserError(f"stack {real.name} is a twin already; name a real lab, such as homelab")
    lab = settings.load(real.settings_file)
    if not lab.nodes:
        raise UserError(f"{real.settings_file.name} has no nodes on boards; a twin plays those, and no other hosts")
    raw = _sections(real.settings_file)
    sections, run = translated(raw, lab, served(real.root / CHARTS), network, since.ahead if since else ())
    name = name or name_of(real.name)
    document = {
        "encryptionsalt": twin_of_secrets.salt(),
        "config": {f"{PREFIX}{key}": value for key, value in sections.items()},
    }
    notes = compared(run.notes, since.first if since else None, run.ahead)
    head = f"{ORIGIN} {real.name}`, from {real.settings_file.name}. Its secrets protect nothing."
    text = "\n".join([head, *(f"# {line}" for line in notes.lines()), dumped(document)])
    return Written(name, text, hardware(name, lab, run, real.root, before), notes)


def save(made: Written, root: Path) -> Stack:
    """Write both files; git does not see them.

    Raises:
        RefusedError: there is such a stack already, and somebody else wrote it.
    """
    twin = Stack(made.stack, root)
    for path in (twin.settings_file, twin.lab_file):
        if path.exists() and not path.read_text(encoding="utf-8").startswith(ORIGIN):
            raise RefusedError(f"{path.name}: was not written by `homelab twin-of`; nothing was changed")
    twin.settings_file.write_text(made.settings, encoding="utf-8")
    twin.lab_file.write_text(
        f"{ORIGIN}`: the hardware that {twin.settings_file.name} speaks of.\n" + dumped(made.hardware), encoding="utf-8"
    )
    return twin


def _since(twin: Stack) -> Notes | None:
    """What was noted for a twin that has been made; one that was only written, or has ended, begins anew."""
    return read(twin.settings_file) if twin.twin_state.exists() else None


def _sections(file: Path) -> dict[str, Any]:
    """The sections as the file has them, secrets sealed. The file was read before, so its shape is right."""
    data: Any = yamlfile.parse(file.read_text(encoding="utf-8")).data
    return {key.removeprefix(PREFIX): value for key, value in data["config"].items() if key.startswith(PREFIX)}


def dumped(value: Any) -> str:
    """YAML that means the same by any version of YAML: what could be more than a text is quoted."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """A value that stands twice is written twice."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.match(text) and text.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
