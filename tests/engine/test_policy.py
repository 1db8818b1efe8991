"""A broken rule stops the real engine: a preview, an `up`, and a plain `pulumi preview`; and nothing is touched."""

from __future__ import annotations

import pytest

from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

RULES = "control_planes: {at_least: 5}\nwipe: {acknowledge: true}\nbackups: {max_age_hours: 24}\n"
BROKEN = "control_planes.at_least (policy.yaml line 1): Pulumi.twin.yaml line "


def test_a_broken_rule_stops_preview_and_up_before_anything_is_touched(cold: Sandbox) -> None:
    cold.write("policy.yaml", RULES)
    for verb in (("preview",), ("up", "--yes")):
        done = cold.run(*verb)
        assert done.code != 0
        assert "policy.yaml: 1 rule broken; nothing was touched" in done.output
        assert BROKEN in done.output
        assert "Traceback" not in done.output
    assert not cold.count("flash_started")
    assert cold.names() <= {"homelab-twin"}


def test_it_holds_for_the_engine_alone(cold: Sandbox) -> None:
    with pytest.raises(AssertionError, match="1 rule broken"):
        cold.pulumi("preview")


def test_rules_that_are_kept_let_everything_pass(cold: Sandbox) -> None:
    cold.write("policy.yaml", RULES.replace("5", "3"))
    assert "to create" in cold.run("preview").ok().output
