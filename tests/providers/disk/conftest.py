"""Cards of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.providers.disk import scene


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return scene.plain_image(tmp_path / "metal-arm64.raw")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return scene.card_file(tmp_path / "card.img")
