"""The requirement locks: `python -m tools.locks` checks them against their .in files offline, `write` renews them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.pins import ROOT

RUNTIME = "requirements"
TESTS = "requirements-dev"
COMPILE = ("pip", "compile", "-q", "--universal", "--generate-hashes", "--python-version", "3.11")
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")


@dataclass(frozen=True)
class Pin:
    """A locked package. `wanted_by` are the files and packages that the lock's own comments name."""

    name: str
    version: str
    hashes: int
    wanted_by: frozenset[str]


def asked(path: Path) -> dict[str, Requirement]:
    """The requirements of an .in file, by name."""
    lines = (line.split(" #")[0].strip() for line in path.read_text().splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(one.name): one for one in found}


def locked(path: Path) -> list[Pin]:
    """The pins of a lock. A package may have several: one for each range of Python versions."""
    blocks: list[list[str]] = []
    for line in path.read_text().splitlines():
        if _PIN.match(line):
            blocks.append([])
        if blocks:
            blocks[-1].append(line)
    return [_pin(block) for block in blocks]


def _pin(block: Sequence[str]) -> Pin:
    match = _PIN.match(block[0])
    if match is None:
        raise ValueError(f"not a pin: {block[0]}")
    comments = (line.strip().removeprefix("#").strip().removeprefix("via ") for line in block if "    #" in line)
    wanted = frozenset(comment for comment in comments if comment != "via")
    hashes = sum("--hash=" in line for line in block)
    return Pin(canonicalize_name(match["name"]), match["version"], hashes, wanted)


def problems(root: Path = ROOT) -> list[str]:
    """What is wrong with the locks, one sentence each."""
    runtime, tests = locked(root / f"{RUNTIME}.txt"), locked(root / f"{TESTS}.txt")
    versions = {(pin.name, pin.version) for pin in tests}
    differing = [pin for pin in runtime if (pin.name, pin.version) not in versions]
    return [
        *_against(root / f"{RUNTIME}.in", runtime),
        *_against(root / f"{TESTS}.in", tests),
        *(f"{TESTS}.txt: {pin.name} is not at {RUNTIME}.txt's {pin.version}" for pin in differing),
    ]


def _against(source: Path, pins: Sequence[Pin]) -> Iterator[str]:
    lock = source.with_suffix(".txt").name
    wanted = asked(source)
    for name, requirement in wanted.items():
        versions = [pin.version for pin in pins if pin.name == name]
        if not versions:
            yield f"{lock}: {name} is missing, {source.name} asks for it"
        yield from (
            f"{lock}: {name} {version} is not what {source.name} asks for ({requirement.specifier})"
            for version in versions
            if not requirement.specifier.contains(version)
        )
    for pin in pins:
        if not pin.hashes:
            yield f"{lock}: {pin.name} {pin.version} has no hash"
        if pin.wanted_by == {f"-r {source.name}"} and pin.name not in wanted:
            yield f"{lock}: {pin.name} is locked, but {source.name} does not ask for it any more"


def write(root: Path = ROOT) -> None:
    """Resolve both .in files anew. Versions that still fit stay."""
    uv = str(Path(sys.executable).with_name("uv"))
    for name in (RUNTIME, TESTS):
        notes = ("--custom-compile-command", "make lock", "--no-emit-index-url", "--no-emit-find-links")
        subprocess.run([uv, *COMPILE, *notes, f"{name}.in", "-o", f"{name}.txt"], cwd=root, check=True)


def main(arguments: Sequence[str]) -> int:
    """Check or write. Returns the exit code."""
    if list(arguments) == ["write"]:
        write()
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        print("`make lock` writes the locks anew", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
