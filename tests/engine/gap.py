"""How long the Kubernetes API did not answer; `homelab rehearse` measures it the same way."""

from cli.api_gap import ApiGap

__all__ = ["ApiGap"]
