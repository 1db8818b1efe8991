"""A program with nothing behind it: what is tested is the edge between the engine and our providers."""

import os

import pulumi
from toys.toy import Toy  # type: ignore[import-not-found]  # the toy's own folder is its program's

from components.after import after

first = Toy("first", {"number": 1, "secret": pulumi.Output.secret("hush-hush"), "sleep_s": 0})
Toy("second", {"number": after(2, first), "secret": "", "sleep_s": 0})
for index in range(int(os.environ.get("TOYS", "0"))):
    Toy(f"sleeper{index}", {"number": index, "secret": "", "sleep_s": 1.0})
