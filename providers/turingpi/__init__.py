"""Turing Pi 2 boards: a client for their BMC, images, flashing; and the resources over them."""

BOARDS = "homelab:boards"  # where the stack's config has them
