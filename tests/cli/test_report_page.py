"""The report as people and their machines see it, in a real browser: on a phone and on a desk, by day and by night."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from cli.report_lab import Report
from cli.report_page import page
from tests.cli import browser
from tests.cli.browser import Browser, Page
from tests.cli.pictures import picture

SEEN = Path(__file__).parent / "seen" / "report.json"
PHONE, DESK = 360, 1280
HEIGHT = 800
SECTIONS = ("Attention", "Boards and nodes", "Versions", "Certificates", "Backups", "Platform", "Last runs")
TABLES = (
    "Nodes",
    "Versions",
    "Certificates",
    "Backups on this machine",
    "Parts of the platform",
    "Services on the LAN",
)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></td></table>'\"&amp;{{ 7 * 7 }}"

# Every piece of text with its colours: the page's own letters, and those of the drawing on what they lie on.
CONTRASTS = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (colour) => { const [r, g, b] = rgba(colour).map((part) => { const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { for (let it = element; it; it = it.parentElement) {
    const colour = getComputedStyle(it).backgroundColor; if (rgba(colour)[3] === 255) return colour; }
    return 'white'; };
  const drawn = (text) => getComputedStyle((text.closest('g') || text.ownerSVGElement).querySelector('rect')).fill;
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.closest('title, desc, style')) continue;
    const svg = element.closest('svg');
    const front = svg ? getComputedStyle(element).fill : getComputedStyle(element).color;
    const [one, other] = [light(front), light(svg ? drawn(element) : behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${walk.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return found;
})()
"""
# What is wider than the screen, or reaches over its edge.
OVERFLOW = """
(() => {
  const wide = document.documentElement.clientWidth;
  const over = [...document.querySelectorAll('body *')].filter((it) => {
    if (it.closest('caption, .skip, thead') || !it.getClientRects().length) return false;
    const box = it.getBoundingClientRect();
    return box.right > wide + 0.5 || box.left < -0.5;
  });
  return {scroll: document.documentElement.scrollWidth, wide, over: over.map((it) => it.outerHTML.slice(0, 120))};
})()
"""
# Letters of a drawing that reach over the frame that they stand in.
SPILT = """
[...document.querySelectorAll('svg text')].filter((it) => {
  const frame = (it.closest('g') || it.ownerSVGElement).querySelector('rect').getBoundingClientRect();
  const box = it.getBoundingClientRect();
  return box.left < frame.left - 1 || box.right > frame.right + 1;
}).map((it) => it.textContent)
"""
# A cell whose letters reach into its neighbour's.
CLIPPED = """
[...document.querySelectorAll('th, td, li, dd, p')].filter((it) => it.getClientRects().length &&
  !it.closest('caption, thead') && it.scrollWidth > it.clientWidth + 1).map((it) => it.textContent.trim())
"""


def recorded() -> Report:
    return TypeAdapter(Report).validate_json(SEEN.read_text())


def changed(value: Any, how: Any) -> Any:
    """A recorded report with every text in it changed, but moments."""
    if isinstance(value, dict):
        return {key: changed(inner, how) for key, inner in value.items()}
    if isinstance(value, list):
        return [changed(inner, how) for inner in value]
    is_moment = isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value)
    return how(value) if isinstance(value, str) and not is_moment else value


def other(how: Any) -> Report:
    return TypeAdapter(Report).validate_python(changed(json.loads(SEEN.read_text()), how))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = browser.program()
    if executable is None:
        pytest.skip(browser.ABSENT)
    with browser.running(executable, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(recorded()), encoding="utf-8")
    return path


@pytest.fixture(params=[PHONE, DESK], ids=["phone", "desk"])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shown(chromium: Browser, file: Path, width: int, scheme: str) -> Iterator[Page]:
    found = chromium.open(file, width, HEIGHT, scheme)
    found.value("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    yield found
    found.close()


def test_nothing_reaches_over_the_edge_of_the_screen(shown: Page, width: int) -> None:
    found = shown.value(OVERFLOW)
    assert found["wide"] == width
    assert found["scroll"] <= width
    assert found["over"] == []
    assert shown.value(CLIPPED) == []
    assert shown.value(SPILT) == []


def test_no_other_host_is_asked_for_anything(shown: Page, file: Path) -> None:
    assert [url for url in shown.requests if not url.startswith("data:")] == [file.as_uri()]
    assert shown.complaints == []


def test_every_letter_can_be_read(shown: Page) -> None:
    assert shown.value(CONTRASTS) == []


def test_headings_lead_through_the_page_without_a_gap(shown: Page) -> None:
    levels = shown.value("[...document.querySelectorAll('h1, h2, h3, h4, h5')].map((it) => Number(it.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    titles = shown.value("[...document.querySelectorAll('h2')].map((it) => it.textContent)")
    assert tuple(titles) == SECTIONS


def test_a_screen_reader_is_told_of_landmarks_and_tables(shown: Page) -> None:
    told = shown.accessible()
    roles = [role for role, _ in told]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1, landmark
    assert [name for role, name in told if role == "region"] == list(SECTIONS)
    tables = [name for role, name in told if role == "table"]
    assert set(TABLES) <= set(tables)
    assert "" not in tables
    assert ("rowheader", "node1") in told
    assert ("columnheader", "Days left") in told  # on a phone, too, where no eye sees it
    assert {"cell", "row"} <= set(roles)
    drawings = [name for role, name in told if role in ("image", "img")]
    assert "board1 at 192.168.1.60: answering" in drawings


def test_rows_are_cards_on_a_phone_and_lines_on_a_desk(shown: Page, width: int) -> None:
    cells = "document.querySelector('#boards ~ table tbody tr').querySelectorAll('td')"
    lefts = shown.value(f"new Set([...{cells}].map((it) => Math.round(it.getBoundingClientRect().left))).size")
    tops = shown.value(f"new Set([...{cells}].map((it) => Math.round(it.getBoundingClientRect().top))).size")
    assert (lefts, tops) == ((1, 7) if width == PHONE else (7, 1))
    label = shown.value(f"getComputedStyle({cells}[0], '::before').content")
    assert label == ('"Place"' if width == PHONE else "none")


def test_what_can_be_typed_on_is_large_enough_for_a_finger(shown: Page) -> None:
    sizes = shown.value(
        "[...document.querySelectorAll('nav a, summary')].map((it) => it.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 24


def test_the_language_and_the_title_are_told(shown: Page) -> None:
    assert shown.value("document.documentElement.lang") == "en"
    assert shown.value("document.title") == "home: the lab at 21 Nov 2026, 19:30 UTC"


def test_day_and_night_look_different(chromium: Browser, file: Path) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        found = chromium.open(file, DESK, HEIGHT, scheme)
        colours.add(found.value("getComputedStyle(document.body).backgroundColor"))
        found.close()
    assert len(colours) == 2


def test_whatever_a_lab_says_of_itself_stays_text(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(page(other(lambda text: f"{text}{HOSTILE}")), encoding="utf-8")
    for width in (PHONE, DESK):
        found = chromium.open(path, width, HEIGHT)
        assert "owned" not in found.value("document.title").replace(HOSTILE, "")
        assert found.value("document.querySelectorAll('img, script, iframe, object').length") == 0
        assert found.value("[...document.querySelectorAll('*')].some((it) => it.hasAttribute('onerror'))") is False
        assert HOSTILE in found.value("document.body.textContent")
        assert [url for url in found.requests if not url.startswith("data:")] == [path.as_uri()]
        assert found.value(OVERFLOW)["over"] == []
        found.close()


def test_long_names_break_and_widen_nothing(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "long.html"
    path.write_text(page(other(lambda text: f"{text}{'long' * 20}")), encoding="utf-8")
    for width in (PHONE, DESK):
        found = chromium.open(path, width, HEIGHT)
        assert found.value(OVERFLOW)["over"] == []
        assert found.value(CLIPPED) == []
        found.close()


def test_a_request_of_a_page_would_be_noticed(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<!doctype html><img src='https://elsewhere.example/x.png'><div style='width:2000px'>x</div>")
    found = chromium.open(path, PHONE, HEIGHT)
    assert "https://elsewhere.example/x.png" in found.requests
    assert found.value(OVERFLOW)["over"] != []
    found.close()


PICTURES = (
    ("report-desktop.png", DESK, "light", "body", 1500),
    ("report-runs.png", DESK, "dark", "section:has(#runs)", 1200),
    ("report-phone.png", PHONE, "light", "body", 1300),
)


@pytest.mark.parametrize(("name", "width", "scheme", "part", "most"), PICTURES, ids=[it[0] for it in PICTURES])
def test_the_pictures_of_the_docs(
    chromium: Browser, file: Path, tmp_path: Path, name: str, width: int, scheme: str, part: str, most: int
) -> None:
    path = picture(name, tmp_path)
    found = chromium.open(file, width, HEIGHT, scheme)
    found.picture(path, part, most)
    found.close()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


class Addresses(HTMLParser):
    """Every address in a page that a browser would ask for by itself, and everything that would run."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.runs: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attributes}
        self.asked += [
            found[key] for key in ("src", "srcset", "data", "poster", "action", "xlink:href") if key in found
        ]
        self.asked += [found["href"]] if tag != "a" and "href" in found else []
        self.asked += re.findall(r"url\(([^)]*)\)", found.get("style", ""))
        self.runs += [tag] if tag == "script" else []
        self.runs += [key for key in found if key.startswith("on")]
        self.ids += [found["id"]] if "id" in found else []


def test_the_page_is_one_file_and_nothing_in_it_runs() -> None:
    text = page(recorded())
    found = Addresses()
    found.feed(text)
    assert found.asked == ["data:,"]
    assert found.runs == []
    assert len(found.ids) == len(set(found.ids))
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_only_the_newest_backups_are_listed() -> None:
    report = recorded()
    many = tuple(replace(report.backups[0], file=f"etcd-{number}.db") for number in range(23))
    text = page(replace(report, backups=many))
    assert "etcd-19.db" in text
    assert "etcd-20.db" not in text
    assert "3 older ones are not listed." in text
    assert "not listed" not in page(report)


def test_the_page_tells_what_was_recorded() -> None:
    text = page(recorded())
    for word in (
        "node6: not Ready: kubelet stopped posting node status",
        "Talos client: 20 days left; homelab up renews it",
        "192.168.1.10:/export/backups",
        "etcd-home-20261119T033000Z.db",
        "18.4 MB",
        'href="https://grafana.home.example/"',
        "waits for one",
        "6 min 19 s",
        "written and read back, and it does not boot",
    ):
        assert word in text
    assert page(recorded()) == text
