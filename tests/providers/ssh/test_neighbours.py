"""A host is found by its MAC in the kernel's table, and nobody else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.deadline import Deadline
from providers.errors import UnreachableError
from providers.ssh import neighbours

TABLE = """\
IP address       HW type     Flags       HW address            Mask     Device
127.0.0.9        0x1         0x2         02:00:00:00:00:41     *        eth0
127.0.0.10       0x1         0x0         00:00:00:00:00:00     *        eth0
127.0.0.11       0x1         0x2         02:00:00:00:00:42     *        eth0
127.0.0.12       0x1         0x2         02:00:00:00:00:42     *        eth0
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "arp"
    file.write_text(TABLE)
    return file


def find(mac: str, table: Path) -> str:
    return neighbours.find("rpi1", mac, "127.0.0.0/28", Deadline(0.2), table)


def test_the_one_that_has_it(table: Path):
    assert find("02:00:00:00:00:41", table) == "127.0.0.9"


def test_nobody_has_it(table: Path):
    with pytest.raises(UnreachableError, match=r"rpi1 \(02:00:00:00:00:43\): nobody in 127\.0\.0\.0/28 has it"):
        find("02:00:00:00:00:43", table)


def test_two_have_it(table: Path):
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.11 and 127\.0\.0\.12 have it"):
        find("02:00:00:00:00:42", table)


def test_an_address_that_did_not_answer_is_nobodys(table: Path):
    assert ("127.0.0.10", "00:00:00:00:00:00") not in neighbours.entries(TABLE)


def test_this_machines_own_table_can_be_read():
    neighbours.entries(neighbours.TABLE.read_text())
