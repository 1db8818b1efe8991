"""Answers of each firmware, from files; and whatever else a wire can bring."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.errors import HomelabError
from providers.turingpi import answers
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.wire import Answer
from tests.providers.turingpi.lab import forget_sessions

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
TIMEOUT_S = 0.5
PARSERS = {
    "power": lambda value: {str(slot): on for slot, on in answers.power("here", value).items()},
    "uart": lambda value: answers.uart("here", value),
    "handle": lambda value: answers.handle("here", value),
    "info": answers.info,
    "version_1": answers.is_version_1,
    "status": lambda value: _status(answers.status("here", value)),
    "node_info": lambda value: [info.module for info in answers.node_info("here", value).values()],
    "blocked_s": answers.blocked_s,
}


def _status(status: answers.Status) -> dict[str, Any]:
    return {"state": status.state.value, "id": status.id, "written": status.written, "text": status.text}


@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: file.stem)
def test_4a8_each_firmwares_answers(file: Path) -> None:
    for case in json.loads(file.read_text(encoding="utf-8")):
        assert PARSERS[case["parser"]](case["answer"]) == case["means"], case


@contextmanager
def _server(reply: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """Answers every connection with these bytes, one by one when there is a pause, and closes it."""
    listener = socket.create_server(("127.105.250.1", 0))
    listener.settimeout(0.05)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                continue
            with connection:
                _answer(connection, reply, pause_s, ended)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.105.250.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        thread.join()
        listener.close()


def _answer(connection: socket.socket, reply: bytes, pause_s: float, ended: threading.Event) -> None:
    connection.settimeout(0.5)
    try:
        connection.recv(65536)
        for part in [reply] if not pause_s else [reply[i : i + 1] for i in range(len(reply))]:
            connection.sendall(part)
            if ended.wait(pause_s):
                return
    except OSError:
        return


def _ask_everything(url: str) -> None:
    """Every question ends in time, with an answer or an error of ours."""
    forget_sessions()
    said: list[str] = []
    with Bmc.connect(Endpoint(url, password="x"), TIMEOUT_S) as bmc:
        for ask in (bmc.power, lambda: bmc.uart(1), bmc.flash_status, bmc.node_info, bmc.info, bmc.flash_cancel):
            began = time.monotonic()
            try:
                ask()
            except HomelabError as error:
                said.append(str(error))
            assert time.monotonic() - began < 2 * TIMEOUT_S + 0.5
    assert not [text for text in said if "\n" in text]


def _http(status: int, kind: str, body: bytes, length: int) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["response", "result", "node1", "Transferring", "Done", "Error", "id", "uart", "handle", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
BODIES = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    status=st.sampled_from([100, 101, 200, 200, 200, 204, 301, 400, 401, 403, 404, 418, 500, 599]),
    kind=st.sampled_from(["application/json", "text/plain; charset=utf-8", "text/html", ""]),
    body=BODIES,
    more=st.integers(-3, 3),
)
def test_any_http_answer_is_an_answer_or_a_clear_error(status: int, kind: str, body: bytes, more: int) -> None:
    with _server(_http(status, kind, body, max(0, len(body) + more))) as url:
        _ask_everything(url)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(reply=st.binary(max_size=80))
def test_anything_that_is_not_http_is_a_clear_error(reply: bytes) -> None:
    with _server(reply) as url:
        _ask_everything(url)


@pytest.mark.parametrize("what", ["head", "body", "silence"])
def test_a_slow_answer_ends_at_its_deadline(what: str) -> None:
    good = _http(200, "application/json", b'{"response":[{"result":[{"node1":"1"}]}]}', 41)
    reply = {"head": good, "body": good, "silence": b"H"}[what]
    with _server(reply, pause_s=0.2 if what != "silence" else 3) as url:
        began = time.monotonic()
        with pytest.raises(HomelabError, match=r"within 0\.5 s"), Bmc.connect(Endpoint(url), TIMEOUT_S) as bmc:
            bmc.power()
        assert time.monotonic() - began < TIMEOUT_S + 0.4


def test_an_endless_answer_is_cut_off() -> None:
    body = b" " * (5 << 20)
    with (
        _server(_http(200, "application/json", body, len(body))) as url,
        pytest.raises(HomelabError, match="more than"),
        Bmc.connect(Endpoint(url), 10) as bmc,
    ):
        bmc.power()


@settings(max_examples=300, deadline=None)
@given(value=JSON, parser=st.sampled_from(["power", "uart", "handle", "status", "node_info", "info", "version_1"]))
def test_parsers_take_any_json(value: Any, parser: str) -> None:
    with suppress(HomelabError):
        PARSERS[parser](value)


def test_deeply_nested_json_is_an_error_and_no_crash() -> None:
    answer = Answer(200, "application/json", b"[" * 100_000)
    with pytest.raises(HomelabError, match="not JSON"):
        answers.document("here", answer)
