"""Talos Linux: secrets, machine configs, and a client of the machine API in both of its modes."""
