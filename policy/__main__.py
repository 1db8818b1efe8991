"""`python -m policy schema|check FILE...`: writes the schema for editors, or reads policy files."""

import json
import sys
from pathlib import Path

from policy.load import load
from policy.models import schema
from settings.problems import SettingsError

SCHEMA = Path(__file__).parent.parent / "docs" / "policy.schema.json"
_USAGE = "usage: python -m policy schema | check FILE..."


def text() -> str:
    """The schema as its file holds it."""
    return json.dumps(schema(), indent=2) + "\n"


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code: 0 good, 1 mistakes in a file, 2 wrong usage."""
    match arguments:
        case ["schema"]:
            SCHEMA.write_text(text(), encoding="utf-8")
        case ["check", *files] if files:
            return max(_check(Path(file)) for file in files)
        case _:
            print(_USAGE, file=sys.stderr)
            return 2
    return 0


def _check(file: Path) -> int:
    try:
        load(file)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{file.name}: good")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
