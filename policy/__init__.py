"""What an owner wants never to happen (`policy.yaml`), held against the settings before anything is touched."""

from .models import Policy, Reaction
from .program import hold

__all__ = ["Policy", "Reaction", "hold"]
