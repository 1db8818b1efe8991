"""The pages keep up with the program: verbs, links, outputs, quoted errors and commands are those that exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
# Verbs that are told of in another one's runbook, and the one that only lists the others.
TOLD_IN = {"test-full": "test", "lock": "lint"}
LISTS = "help"
SECTIONS = ("When", "What to type", "What you see", "What it never does", "When it fails")
QUOTED = re.compile(r'"([^"]+)"')
SOURCES = ("cli", "drift", "policy", "providers", "settings", "tools", "components", "twin", "bench")


def pages() -> list[Path]:
    hidden = (".venv", ".homelab", ".git", ".pytest_cache", "node_modules")
    return [path for path in sorted(ROOT.rglob("*.md")) if not set(path.relative_to(ROOT).parts) & set(hidden)]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def make_verbs() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)) - {LISTS}


def commands() -> dict[str, set[str]]:
    """Each command's options."""
    group = typer.main.get_command(app)
    found = group.commands  # type: ignore[attr-defined]
    return {name: options(command) for name, command in found.items()}


def options(command: Any) -> set[str]:
    """Those of a command, or of all commands of a group."""
    below = [options(one) for one in getattr(command, "commands", {}).values()]
    return {option for p in command.params for option in p.opts}.union(*below)


def verbs() -> list[str]:
    return sorted(make_verbs() | set(commands()))


@pytest.mark.parametrize("verb", verbs())
def test_each_verb_has_a_runbook(verb: str) -> None:
    page = RUNBOOKS / f"{TOLD_IN.get(verb, verb)}.md"
    text = page.read_text(encoding="utf-8")
    assert re.search(rf"\b(make|homelab) {verb}\b", text), f"{page.name} does not tell of `{verb}`"


@pytest.mark.parametrize("verb", verbs())
def test_each_verb_stands_in_the_readme_table(verb: str) -> None:
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [line.split("|")[1] for line in rows]
    assert any(re.search(rf"\b(make|homelab) {verb}(?![\w-])", cell) for cell in cells)


@pytest.mark.parametrize("verb", sorted({TOLD_IN.get(verb, verb) for verb in verbs()}))
def test_a_verbs_runbook_has_all_its_parts(verb: str) -> None:
    text = (RUNBOOKS / f"{verb}.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [head for head in heads if head in SECTIONS] == list(SECTIONS)


def test_each_runbook_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in sorted(RUNBOOKS.glob("*.md")) if f"(runbooks/{path.name})" not in index]
    assert not missing


def test_each_stack_output_is_documented() -> None:
    source = (ROOT / "components" / "outputs.py").read_text(encoding="utf-8")
    exported = set(re.findall(r'pulumi\.export\(\s*"(\w+)"', source))
    table = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    assert exported
    assert exported == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize("page", pages(), ids=name)
def test_each_relative_link_leads_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    lost = [t for t in targets if not re.match(r"[a-z]+:", t) and not leads(page, t)]
    assert not lost


def leads(page: Path, target: str) -> bool:
    file, _, anchor = target.partition("#")
    where = (page.parent / file).resolve() if file else page
    return where.exists() and (not anchor or anchor in anchors(where))


def anchors(page: Path) -> set[str]:
    """A page's headings as the usual renderers name them."""
    heads = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def typed(page: Path) -> list[str]:
    """The lines that a reader is told to type: those of fenced blocks, and code within sentences."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", without_code(text))


@pytest.mark.parametrize("page", pages(), ids=name)
def test_what_readers_are_told_to_type_exists(page: Path) -> None:
    known, targets = commands(), make_verbs() | {LISTS}
    wrong = []
    for line in typed(page):
        wrong += [line for verb in re.findall(r"(?:^|[;&(] ?)make ([a-z][a-z-]*)", line) if verb not in targets]
        for verb, rest in re.findall(r"(?:^|/bin/|[;&(] ?)homelab ([a-z][a-z-]*)([^#;&|]*)", line):
            options = set(re.findall(r"(?<= )--?[a-z][a-z-]*", rest.split(" -- ")[0]))
            wrong += [line] if verb not in known or not options <= known[verb] | {"--help"} else []
    assert not wrong


@cache
def fault_names() -> set[str]:
    listed = [sys.executable, "-m", "twin", "fault", "--list"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


@pytest.mark.parametrize("page", pages(), ids=name)
def test_faults_that_readers_are_told_to_type_exist(page: Path) -> None:
    told = {found for line in typed(page) for found in re.findall(r"-m twin fault ([a-z][a-z-]*)", line)}
    assert not told or told <= fault_names()


@cache
def messages() -> list[str]:
    """The texts of the program, with an ellipsis where a value goes."""
    files = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    return [text for path in files for text in texts(ast.parse(path.read_text(encoding="utf-8")))]


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield "".join(str(part) for part in parts)


def quoted_errors(page: Path) -> list[str]:
    """What stands in quotation marks in the first column of tables of errors."""
    lines = page.read_text(encoding="utf-8").splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith('| "')]
    return [quote for cell in cells for quote in QUOTED.findall(cell)]


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=name)
def test_each_quoted_error_is_one_that_the_program_says(page: Path) -> None:
    unknown = [quote for quote in quoted_errors(page) if not any(quote in text for text in messages())]
    assert not unknown


@pytest.mark.parametrize("page", pages(), ids=name)
def test_no_page_tells_where_somebodys_checkout_was(page: Path) -> None:
    assert not re.findall(r"(?<![\w.~])/(?:work|root|home/\w+|tmp/\w+)/|@@", page.read_text(encoding="utf-8"))


def test_the_picture_keeps_its_text_as_text() -> None:
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    for resource in ("Secrets", "Flash", "Power", "Machine", "Member", "Cluster"):
        assert f">{resource}</text>" in picture
    assert "prefers-color-scheme: dark" in picture
