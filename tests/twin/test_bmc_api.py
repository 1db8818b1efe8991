"""The BMC's answers, quirk by quirk (shared hardware facts A2 to A5 and A8)."""

import ssl
from datetime import UTC, datetime

import httpx2
import pytest
from cryptography import x509

BOARDS = {
    "a": {"http_port": 8081},
    "auth": {},
    "ban": {},
    "token": {},
    "old": {"firmware": "v2.0.5"},
    "one": {"firmware": "v1.1.0"},
    "new": {"firmware": "v2.3.0", "revision": "v2.5"},
    "open": {"loopback_auth": False},
}


def get(client, query, path="/api/bmc"):
    return client.get(f"{path}?{query}")


def result(response):
    assert response.headers["content-type"] == "application/json"
    return response.json()["response"][0]["result"]


def test_certificate_is_self_signed_expired_and_names_nothing(bench):
    spec = bench.lab["boards"]["a"]
    certificate = x509.load_pem_x509_certificate(ssl.get_server_certificate((spec["address"], spec["port"])).encode())
    assert certificate.subject == certificate.issuer
    assert certificate.subject.rfc4514_string() == "CN=Turing-Pi self signed"
    assert len(list(certificate.extensions)) == 0
    assert certificate.not_valid_after_utc < datetime.now(UTC)


def test_unknown_path_is_the_web_ui_with_200(bench):
    for path in ("/", "/anything", "/api/bmc/nothing"):
        answer = bench.client("a").get(path)
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/html")


def test_port_80_redirects_to_443_and_serves_info(bench):
    plain = bench.client("a", base_url=f"http://{bench.lab['boards']['a']['address']}:8081")
    moved = plain.get("/api/bmc?opt=get&type=power")
    host = f"{bench.lab['boards']['a']['address']}:8081"
    assert (moved.status_code, moved.headers["location"]) == (308, f"https://{host}:443/api/bmc?opt=get&type=power")
    assert plain.get("/info").json()["response"][0]["result"][0]["api"] == "1.1"


def test_power_is_strings_and_survives_as_a_wish(bench, wait):
    client = bench.client("a")
    assert result(get(client, "opt=get&type=power")) == [{"node1": "0", "node2": "0", "node3": "0", "node4": "0"}]
    assert result(get(client, "opt=set&type=power&node1=1&node3=1")) == "ok"
    assert result(get(client, "opt=get&type=power")) == [{"node1": "1", "node2": "0", "node3": "1", "node4": "0"}]
    assert bench.module("a", "a1")["phase"] == "loader"  # node3 is an empty slot: its bit is a wish all the same
    get(client, "opt=set&type=power&node1=0&node3=0")
    wait(lambda: bench.module("a", "a1")["phase"] == "off")


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("type=power", 400, "Missing `opt` parameter"),
        ("opt=get", 400, "Missing `type` parameter"),
        ("opt=get&type=toaster", 400, "Invalid `type` parameter toaster"),
        ("opt=set&type=power", 500, "Failed to set power state: Condition failed: `mask != 0` (0 vs 0)"),
        ("opt=set&type=power&node1=on", 400, "Invalid value `on` for parameter `node1`"),
        ("opt=set&type=reset", 400, "Missing `node` parameter"),
        ("opt=set&type=reset&node=x", 400, "Parameter `node` is not a number"),
        ("opt=set&type=reset&node=4", 400, "Parameter `node` is out of range 0..3 of node IDs"),
        ("opt=set&type=usb&node=0", 400, "Missing `mode` parameter"),
        ("opt=set&type=uart&node=0", 400, "Missing `cmd` parameter"),
        ("opt=get&type=sdcard", 400, "no SD card"),
        ("opt=set&type=nodeinfo", 501, "not implemented"),
    ],
)
def test_errors_come_in_the_envelope(bench, query, status, text):
    answer = get(bench.client("a"), query)
    assert (answer.status_code, answer.json()) == (status, {"response": [{"result": text}]})


def test_node_is_zero_based_and_cut_to_eight_bits(bench):
    client = bench.client("a")
    for number, node in ((0, "Node 1"), (256, "Node 1"), (-255, "Node 2"), (1, "Node 2")):
        get(client, f"opt=set&type=usb&node={number}&mode=4")
        usb = result(get(client, "opt=get&type=usb"))
        assert usb == [{"mode": "Host", "node": node, "route": "Bmc", "bus_type": "Single bus"}]


def test_usb_mode_3_drops_the_connection(bench):
    with pytest.raises(httpx2.HTTPError):
        get(bench.client("a"), "opt=set&type=usb&node=0&mode=3")
    assert get(bench.client("a"), "opt=get&type=usb").status_code == 200


def test_reset_of_a_node_that_is_off_ends_on_and_is_not_remembered(bench):
    client = bench.client("a")
    assert result(get(client, "opt=set&type=reset&node=1")) == "ok"
    assert bench.module("a", "a2")["phase"] == "loader"
    assert result(get(client, "opt=get&type=power"))[0]["node2"] == "0"


def test_uart_of_a_blank_disk_is_silent_and_echoes_what_is_typed(bench):
    client = bench.client("a")
    get(client, "opt=set&type=power&node2=1")
    assert get(client, "opt=get&type=uart&node=1").json() == {"response": [{"uart": ""}]}
    get(client, "opt=set&type=uart&node=1&cmd=hello")
    first = get(client, "opt=get&type=uart&node=1").json()
    get(client, "opt=set&type=power&node2=0")  # the ring is the BMC's: power does not clear it
    get(client, "opt=set&type=power&node2=1")
    assert first == get(client, "opt=get&type=uart&node=1").json() == {"response": [{"uart": "hello\r\n"}]}


def test_uart_keeps_16_kib(bench):
    client = bench.client("a")
    get(client, "opt=set&type=power&node2=1")
    for _ in range(9):
        get(client, f"opt=set&type=uart&node=1&cmd={'x' * 2000}")
    assert len(get(client, "opt=get&type=uart&node=1").json()["response"][0]["uart"]) == 16 << 10


def test_usb_boot_pin_keeps_a_node_from_booting_until_it_is_cleared(bench):
    client = bench.client("a")
    get(client, "opt=set&type=power&node1=0")
    get(client, "opt=set&type=usb_boot&node=0")
    get(client, "opt=set&type=power&node1=1")
    assert bench.module("a", "a1")["phase"] == "usb"
    get(client, "opt=set&type=clear_usb_boot")
    get(client, "opt=set&type=reset&node=0")
    assert bench.module("a", "a1")["phase"] == "loader"


def test_msd_of_an_empty_slot_fails_in_the_envelope(bench):
    answer = get(bench.client("a"), "opt=set&type=node_to_msd&node=3")
    assert answer.status_code == 500
    assert "USB interface not found or supported" in answer.json()["response"][0]["result"]


def test_cooling_and_node_info(bench):
    client = bench.client("a")
    assert result(get(client, "opt=get&type=cooling")) == [{"device": "system fan", "speed": 2, "max_speed": 4}]
    assert get(client, "opt=set&type=cooling&device=system%20fan&speed=9").status_code == 500
    answer = client.post("/api/bmc?opt=set&type=node_info", json={"Node2": {"name": "x"}})
    assert (answer.status_code, answer.content) == (200, b"")
    assert [node["name"] for node in result(get(client, "opt=get&type=node_info"))] == [None, "x", None, None]
    bad = client.post("/api/bmc?opt=set&type=node_info", content=b"{")
    assert (bad.status_code, bad.headers["content-type"]) == (400, "text/plain; charset=utf-8")


def test_about_differs_by_firmware(bench):
    about = {board: result(get(bench.client(board), "opt=get&type=about")) for board in ("a", "old", "new")}
    assert (about["a"]["version"], about["a"]["build_version"]) == ("2.3.4", "v2.1.0")
    assert (about["new"]["version"], about["new"]["bmcd_version"]) == ('"2.3.0"', "2.3.7")
    assert "build_version" not in about["old"]
    assert get(bench.client("old"), "opt=get&type=cooling").status_code == 400
    assert result(get(bench.client("new"), "opt=get&type=usb"))[0]["bus_type"] == "Usb hub"


def test_no_authorization_is_401_in_plain_text(bench):
    answer = get(bench.client("auth", auth=None), "opt=get&type=power")
    assert (answer.status_code, answer.text) == (401, "no authorization header provided")
    assert answer.headers["www-authenticate"] == 'Basic realm="Access to Baseboard Management Controller"'


def test_other_scheme_is_refused_and_its_case_counts(bench):
    client = bench.client("auth", auth=None)
    answer = client.get("/api/bmc?opt=get&type=power", headers={"Authorization": "Foo bar"})
    assert (answer.status_code, answer.text) == (401, "Foo authentication not supported")
    assert (
        "basic authentication not supported"
        in client.get("/api/bmc?opt=get&type=power", headers={"Authorization": "basic eA=="}).text
    )


def test_login_gives_a_token_without_content_type(bench):
    client = bench.client("token", auth=None)
    answer = client.post("/api/bmc/authenticate", json={"username": "root", "password": "turing"})
    token = answer.json()["id"]
    assert answer.headers["x-auth-token"] == token
    assert len(token) == 64
    assert "content-type" not in answer.headers
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/bmc?opt=get&type=power", headers=headers).status_code == 200
    bench.fault("bmc-tokens-lost", board="token")
    lost = client.get("/api/bmc?opt=get&type=power", headers=headers)
    assert (lost.status_code, lost.text) == (401, f"token {token} is not registered")
    assert 'error="invalid_token"' in lost.headers["www-authenticate"]


def test_expired_token_says_so_once(bench):
    client = bench.client("token", auth=None)
    token = client.post("/api/bmc/authenticate", json={"username": "root", "password": "turing"}).json()["id"]
    bench.fault("bmc-tokens-expired", board="token")
    headers = {"Authorization": f"Bearer {token}"}
    told = [client.get("/api/bmc?opt=get&type=power", headers=headers).text for _ in range(2)]
    assert told == ["token expired 3h ago", f"token {token} is not registered"]


def test_bad_login_is_403(bench):
    client = bench.client("auth", auth=None)
    answer = client.post("/api/bmc/authenticate", json={"username": "root", "password": "x"})
    assert (answer.status_code, answer.text) == (403, "credentials incorrect")
    answer = client.post("/api/bmc/authenticate", content=b"{}")
    assert answer.status_code == 403
    assert answer.text.startswith("error trying to parse credentials")


def test_five_bad_passwords_ban_the_peer_for_a_while(bench, wait):
    wrong, right = bench.client("ban", auth=("root", "x")), bench.client("ban")
    for _ in range(5):
        assert get(wrong, "opt=get&type=power").text == "credentials incorrect"
    assert get(right, "opt=get&type=power").text.startswith("Exceeded allowed authentication attempts. Access blocked")
    assert right.post("/api/bmc/authenticate", json={}).status_code == 403
    wait(lambda: get(right, "opt=get&type=power").status_code == 200)


def test_password_reset_to_the_default(bench):
    bench.fault("bmc-password", board="new", password="other")
    assert get(bench.client("new"), "opt=get&type=power").status_code == 401
    bench.fault("bmc-password", board="new")
    assert get(bench.client("new"), "opt=get&type=power").status_code == 200


def test_loopback_may_skip_authentication(bench):
    assert get(bench.client("open", auth=None), "opt=get&type=power").status_code == 200


def test_firmware_1_is_plain_http_without_auth_and_with_numbers(bench):
    client = bench.client("one", auth=None)
    assert get(client, "opt=set&type=power&node1=1").status_code == 200
    power = get(client, "opt=get&type=power").json()
    assert power == {"response": [{"node1": 1, "node2": 0, "node3": 0, "node4": 0}]}


def test_firmware_1_takes_an_image_in_one_post(bench, wait):
    client, image = bench.client("one", auth=None), bench.image()
    answer = client.post("/api/bmc?opt=set&type=flash&node=1&file=x.raw", files={"file": image})
    assert answer.status_code == 200
    wait(lambda: bench.module("one", "one2")["disk"] == "image")


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("answer-malformed", "malformed"),
        ("answer-html", "html"),
        ("answer-cut", "error"),
        ("answer-drop", "error"),
        ("answer-500", "500"),
        ("answer-slow", "slow"),
    ],
)
def test_answers_can_be_spoilt(bench, fault, seen):
    bench.fault(fault, board="auth", type="about", byte_s=0.001)
    client = bench.client("auth")
    assert get(client, "opt=get&type=power").status_code == 200  # another type: not spoilt
    try:
        answer = get(client, "opt=get&type=about")
    except httpx2.HTTPError:
        assert seen == "error"
        return
    kinds = {"malformed": answer.text.startswith("{{"), "html": "<html>" in answer.text}
    assert kinds.get(seen, seen == str(answer.status_code) or seen == "slow")


def test_answer_may_not_come_for_a_while(bench):
    bench.fault("answer-hang", board="auth", type="about", for_s=1)
    with pytest.raises(httpx2.ReadTimeout):
        get(bench.client("auth", timeout=0.3), "opt=get&type=about")


@pytest.mark.parametrize(("variant", "shape"), [("nested", list), ("bare", dict)])
def test_shapes_of_other_firmwares(bench, variant, shape):
    bench.fault("bmc-shape", board="auth", variant=variant)
    try:
        response = get(bench.client("auth"), "opt=get&type=power").json()["response"]
    finally:
        bench.control(command="clear", name="bmc-shape")
    assert isinstance(response[0] if variant == "nested" else response, shape)
