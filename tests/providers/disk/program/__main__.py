"""The cards of a settings file, and nothing else of a lab."""

import os
from pathlib import Path

from components.card import Card
from settings import load

for name, card in load(Path(os.environ["CARDS"])).cards.items():
    Card(name, card)
