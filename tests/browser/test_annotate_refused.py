"""Hostile and mistaken input: refused with a sentence, and the server lives on."""

import json
import re
import socket

import pytest
from annotate_support import Client, launch, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    """One server for the whole module: it has to survive all of it."""
    folder = tmp_path_factory.mktemp("hostile")
    with served(made / "d.h5", made / "p.h5", "-o", folder / "a.h5", cwd=folder) as running:
        running.journal = folder / "a.h5.work"
        yield running


@pytest.fixture
def client(server):
    yield server.client()
    assert server.process.poll() is None
    assert server.client().send("GET", "/session")[0] == 200
    (journal,) = server.journal.iterdir()
    assert journal.read_bytes() == b""


def sentence(content: bytes) -> str:
    text = content.decode()
    return json.loads(text)["message"] if text.startswith("{") else text.removesuffix("\n")


OPEN_AGAIN = "Open the address that `alseg annotate` printed"
NO_TOKEN = f"{OPEN_AGAIN}: it contains the token for this page."
PATHS = ("/", "/page.js", "/page.css", "/session", "/image/0", "/nowhere")


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(client, path):
    for headers in (
        {"Authorization": None},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer \xff"},
        {"Authorization": None, "Cookie": f"alseg-annotate-{client.port}=wrong"},
        {"Authorization": None, "Cookie": '=;=;"a'},
    ):
        status, content = client.send("GET", path, headers=headers)
        assert (status, sentence(content)) == (403, NO_TOKEN)
        assert client.send("GET", f"{path}?token=wrong", headers=headers)[0] == 403


def test_only_the_page_itself_takes_the_token_from_the_address(client, server):
    bare = {"Authorization": None}
    assert client.send("GET", f"/?token={server.token}", headers=bare)[0] == 200
    assert client.send("GET", f"/session?token={server.token}", headers=bare)[0] == 403
    cookie = {"Authorization": None, "Cookie": f"alseg-annotate-{client.port}={server.token}"}
    assert client.send("GET", "/session", headers=cookie)[0] == 200


def test_every_answer_carries_the_policy_and_the_cookie_is_strict(client, server):
    import http.client

    for path in (f"/?token={server.token}", "/page.js", "/image/0", "/nowhere"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", path, headers=client.headers)
        headers = dict(connection.getresponse().getheaders())
        connection.close()
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert ("set-cookie" in headers) == ("token" in path)
        if "token" in path:
            assert "HttpOnly; SameSite=Strict" in headers["set-cookie"]


OTHER = {
    "Origin": f"This request comes from another site. {OPEN_AGAIN}.",
    "Host": f"This server does not have that name. {OPEN_AGAIN}.",
}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "192.168.1.5"},
        {"Host": ""},
        {"Host": "[::1"},
    ],
    ids=str,
)
def test_other_origins_and_names_are_refused(client, headers):
    (name,) = headers
    for method, path, body in (("GET", "/session", None), ("POST", "/next", b'{"client": "a"}')):
        status, content = client.send(method, path, body, headers)
        assert (status, sentence(content)) == (403, OTHER[name])


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:80"])
def test_names_of_this_machine_are_fine_through_a_tunnel_too(client, host):
    assert client.send("GET", "/session", headers={"Host": host, "Origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/image/60", "/image/-1", "/image/1e3", "/image/", "/image/0/..", "/image/../../etc/passwd",
        "/image/..%2f..%2fetc%2fpasswd", "/image/%2e%2e/page.js", "/image/00000", "/image/" + "9" * 5000,
        "/page/page.js", "/../stages/annotate.py", "//etc/passwd", "/image/%00", "/image/%ff", "/image/\u0663",
    ],
    ids=lambda path: path[:24],
)  # fmt: skip
def test_paths_lead_nowhere_but_to_known_queries(client, path):
    status, content = client.send("GET", path.encode("utf-8").decode("latin-1") if path.isascii() else "/image/%D9%A3")
    assert status == (200 if path == "/image/00000" else 404)
    assert b"root:" not in content


def test_bodies_that_are_too_large_are_refused(client, server):
    status, content = client.send("POST", "/next", b" " * 70_000)
    assert (status, sentence(content)) == (413, "The request is larger than 65536 bytes. Send less.")
    assert client.send("POST", "/next", b"{}", {"Content-Length": "99999999999999999999"})[0] in (400, 413)
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = f"POST /next HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
    connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(3):
        connection.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
    assert b" 413 " in connection.recv(100)
    connection.close()


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 60_000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"client": 7}', 422),
        (b'{"client": "../a"}', 422),
        (b'{"client": "a", "annotator": ""}', 422),
        (b'{"client": "a", "annotator": "two\\nlines"}', 422),
        (b'{"client": "a", "annotator": "\\ud800"}', 400),
        (json.dumps({"client": "a", "annotator": "n" * 65}).encode(), 422),
        (b'{"client": "a", "annotator": "n", "more": 1}', 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_bodies_are_refused(client, body, status):
    given, content = client.send("POST", "/next", body)
    assert given == status, content
    name = r"An annotator's name must have 1 to 64 printable characters\. Choose another name\."
    assert re.fullmatch(rf"Invalid request \(.+\)\. Reload the page\.|{name}", sentence(content))


@pytest.mark.parametrize(
    "change",
    [
        {"query": 60}, {"query": -1}, {"query": 10**30}, {"query": "0"}, {"query": True}, {"query": 0.5},
        {"image": "zebra"}, {"y": 1000}, {"x": -1}, {"region": 0}, {"image": "../../etc/passwd"},
        {"classes": [9]}, {"classes": [-1]}, {"classes": [0, 1]}, {"classes": [0, 0]}, {"classes": "sky"},
        {"classes": []}, {"classes": [0], "void": True}, {"classes": [0], "skip": True}, {"void": True, "skip": True},
        {"classes": list(range(300))}, {"seconds": -1}, {"seconds": float("nan")}, {"seconds": float("inf")},
        {"seconds": "1"}, {"annotator": ""}, {"annotator": " a"}, {"annotator": "a\u0000"}, {"extra": 1},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_answers_that_do_not_fit_are_refused(client, change):
    situation = client.ask()
    change = {"classes": [0], **change} if "void" not in change and "skip" not in change else change
    status, told = client.answer(situation, **change)
    assert status in (400, 422), told
    assert told["message"].endswith((" Reload the page.", " Choose another name.", ": the file contains 60 queries."))
    assert client.ask()["question"]["query"] == situation["question"]["query"]


def test_other_mistakes_are_refused(client):
    status, content = client.send("POST", "/next", b"{}", {"Content-Type": "text/plain"})
    assert (status, sentence(content)) == (415, "Send JSON (application/json).")
    assert client.send("GET", "/next")[0] == 405
    assert client.send("DELETE", "/session")[0] == 405
    situation = client.ask()
    body = client.body(situation, classes=[0]) | {"revision": 7}
    for path, values, code, told in (
        ("/answer", body, 409, "Somebody answered this query in the meantime. Your answer was not saved."),
        ("/undo", {"annotator": "somebody", "query": None}, 409, "You have no earlier answer to change."),
        ("/later", {"annotator": "somebody", "query": 999}, 422, "Unknown query 999. Reload the page."),
        ("/finish", {}, 409, "There are no answers yet, so there is no ledger to write."),
    ):
        status, content = client.post(path, **values)
        assert (status, content["message"]) == (code, told)


@pytest.mark.parametrize("bytes_", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100, b"A" * 100_000])
def test_what_is_no_request_at_all_does_no_harm(client, server, bytes_):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(bytes_)
    connection.close()


def test_a_request_to_become_a_websocket_is_none(client, server):
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    assert client.send("GET", "/nowhere", headers=headers)[0] == 404
    assert Client(server.port, "wrong").send("GET", "/session", headers=headers)[0] == 403


@pytest.mark.parametrize(
    "words, says",
    [
        (
            ("p.h5", "--keys", "1,2,3"),
            "--keys names 3 keys for 9 classes (sky, building, road, pavement, grass, tree, car, pole, person). "
            "Name one for each.",
        ),
        (("p.h5", "--keys", "1,2,3,4,5,6,7,8,v"), "key 'v' means class 9 and void; choose different keys"),
        (("p.h5", "--keys", "1,2,3,4,5,6,7,8,8"), "key '8' means class 8 and class 9; choose different keys"),
        (("p.h5", "--undo-key", "Enter"), "key 'Enter' means undo and confirm; choose different keys"),
        (("p.h5", "--void-key", "void"), "'void' is not a key; use one character or one of Backspace, Delete, End, F1"),
        (
            ("p.h5", "--host", "203.0.113.7"),
            "Cannot listen on 203.0.113.7, port 0: ... Choose another --host or --port (0: any free port).",
        ),
        (("r.h5",), "r.h5 refers to regions. Pass --superpixels regions.h5."),
        (("p.h5", "--superpixels", "regions.h5"), "p.h5 refers to pixels, not regions. Omit --superpixels."),
        (
            ("p.h5", "--annotations", "p-simulated.h5"),
            "p.h5: these queries were selected without a ledger. Omit --annotations.",
        ),
        (("p.h5", "-o", "d.h5"), "d.h5 is the dataset input of this stage. Choose another output."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_settings_and_files_that_do_not_fit_are_named(place, words, says):
    """``...`` stands for the system's own words."""
    output = () if "-o" in words else ("-o", "a.h5")
    process = launch("d.h5", *words, *output, cwd=place)
    out, err = process.communicate()
    assert process.returncode == 2, out + err
    assert all(part in err for part in says.split("..."))
    assert "Traceback" not in err


def test_another_host_is_warned_of(place):
    with served("d.h5", "p.h5", "-o", "a.h5", "--host", "0.0.0.0", cwd=place) as server:
        server.process.terminate()
        code, said = server.end()
    assert code == 75
    told = "exposes the page, unencrypted, to the network: whoever has the address sees the images and can answer"
    assert f"warning: 0.0.0.0 {told}" in said
