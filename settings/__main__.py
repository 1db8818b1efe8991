"""`python -m settings schema|reference|check FILE`: writes the generated pages, or reads a stack file."""

import sys
from pathlib import Path

from . import pages
from .load import load
from .problems import SettingsError

_USAGE = "usage: python -m settings schema | reference | check FILE..."


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code: 0 good, 1 mistakes in a file, 2 wrong usage."""
    match arguments:
        case ["schema"]:
            pages.SCHEMA.write_text(pages.schema(), encoding="utf-8")
        case ["reference"]:
            pages.REFERENCE.write_text(pages.reference(), encoding="utf-8")
        case ["check", *files] if files:
            return max(_check(Path(file)) for file in files)
        case _:
            print(_USAGE, file=sys.stderr)
            return 2
    return 0


def _check(file: Path) -> int:
    try:
        settings = load(file)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    for warning in settings.warnings:
        print(f"{file.name}: warning: {warning}")
    print(f"{file.name}: {len(settings.enabled_nodes)} nodes, {len(settings.control_planes)} control planes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
