"""The `homelab` command: what has logic in the project's verbs, for people and (with --json) for machines."""
