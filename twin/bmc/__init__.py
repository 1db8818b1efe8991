"""The BMC's HTTP API as bmcd serves it, with the quirks of each firmware (shared hardware facts, part A)."""
