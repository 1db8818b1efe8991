"""Where the pictures of docs/ are written: the tests write them all the same, into a folder of their own.

HOMELAB_PICTURES=docs has a run of the tests renew those that are shipped.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def picture(name: str, otherwise: Path) -> Path:
    """The path of a picture."""
    folder = os.environ.get("HOMELAB_PICTURES")
    return (ROOT / folder if folder else otherwise) / name
