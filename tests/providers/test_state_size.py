"""State stays small: the engine writes all of it at every step, so what it holds twice is paid for at every step."""

from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.runtime import resource as sdk

from providers import engine
from providers.dynamic import Provider, packed, unpacked


class Lamp(Provider):
    inputs = ("name", "on")

    def __init__(self):
        self.seen: list[dict[str, Any]] = []

    def create(self, props):
        return CreateResult("lamp", self.stored(props, colour="red"))

    def diff(self, _id, olds, news):
        self.seen.append(olds)
        return super().diff(_id, olds, news)

    def update(self, _id, olds, news):
        self.seen.append(olds)
        return UpdateResult(self.stored(news, colour="blue"))

    def read(self, id_, props):
        self.seen.append(props)
        return ReadResult(id_, {**props, "on": False})

    def delete(self, _id, props):
        self.seen.append(props)


INPUTS: Any = {"name": "hall", "on": True}


def bag() -> Struct:
    made = Struct()
    made.update(INPUTS)
    return made


@pytest.fixture
def lamp(monkeypatch):
    """A provider in the middle of an engine's call about a resource with `INPUTS`."""
    request = SimpleNamespace(urn="urn:lamp", old_inputs=bag())
    monkeypatch.setattr(engine, "current_request", lambda: request)
    return Lamp()


def test_only_what_was_observed_is_an_output(lamp):
    assert lamp.create(INPUTS).outs == {"colour": "red"}
    assert lamp.update("lamp", {"colour": "red"}, {"name": "stairs", "on": True}).outs == {"colour": "blue"}


def test_every_call_sees_inputs_and_outputs_as_one(lamp):
    lamp.update("lamp", {"colour": "red"}, INPUTS)
    lamp.delete("lamp", {"colour": "red"})
    assert lamp.seen == [{**INPUTS, "colour": "red"}] * 2


def test_drift_is_an_output_until_it_is_repaired(lamp, monkeypatch):
    monkeypatch.setattr(engine, "current_request", lambda: SimpleNamespace(urn="urn:lamp", inputs=bag()))
    assert lamp.read("lamp", {"colour": "red"}).outs == {"colour": "red", "on": False}
    assert lamp.seen == [{**INPUTS, "colour": "red"}]


def test_drift_is_a_difference(lamp):
    assert lamp.diff("lamp", {"colour": "red"}, INPUTS).changes is False
    assert lamp.diff("lamp", {"colour": "red", "on": False}, INPUTS).changes is True


def test_the_shared_diff_sees_the_inputs_too(lamp):
    class Plain(Provider):
        inputs = ("name",)

    assert isinstance(Plain().diff("lamp", {}, INPUTS), DiffResult)
    assert Plain().diff("lamp", {}, INPUTS).changes is False


def test_outside_the_engine_nothing_is_taken_away():
    assert Lamp().create(INPUTS).outs == {**INPUTS, "colour": "red"}


def test_inputs_travel_as_one_property(lamp):
    assert lamp.create(packed(INPUTS)).outs == {"colour": "red"}
    assert lamp.diff("lamp", {"colour": "red"}, packed(INPUTS)).changes is False
    assert lamp.check({}, packed(INPUTS)).inputs == packed(INPUTS)
    assert unpacked({**packed(INPUTS), "on": False}) == {"name": "hall", "on": False}


def test_a_resource_is_recorded_without_a_stack_trace():
    engine.forget_stack_traces()
    assert sdk._get_stack_trace().frames == []
    assert sdk._get_source_position(sdk._get_stack_trace()) is None
