"""Slow and half-open connections, which nobody can tell from a bad network: the page stays open to people."""

import asyncio
import contextlib
import resource
import socket
import threading

import pytest
import uvicorn
from annotate_support import served

from stages.answering.browser import connections, guard
from stages.answering.browser.connections import BACKLOG, PatientProtocol
from stages.answering.browser.guard import Headers, within_limit

HALF_OPEN = 400
FILES = 256  # that the server may open: fewer than there are connections
PATIENCE = 60


@contextlib.contextmanager
def few_files():
    """For processes that are started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_half_open_connections_stop_nobody_and_fill_no_log(place):
    with contextlib.ExitStack() as stack:
        with few_files():
            server = stack.enter_context(served("d.h5", "p.h5", "-o", "a.h5", cwd=place))
        client = server.client()
        situation = client.ask()
        for number in range(HALF_OPEN):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            connection.sendall(b"POST /next HTTP/1.1\r\nHost: localhost\r\n"[: number % 40])
            if number % 100 == 99:
                status, situation = client.answer(situation, classes=[1])
                assert status == 200, situation
        assert situation["progress"]["answered"] == HALF_OPEN // 100
        server.process.terminate()
        _, told = server.end()
        assert len(told.splitlines()) < 5, told


class Server:
    """uvicorn with our protocol, in a thread of this process; requests of /busy wait for `release`."""

    def __init__(self):
        self.release, self.busy = threading.Event(), threading.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.app, interface="asgi3", http=PatientProtocol, backlog=BACKLOG, log_config=None, lifespan="off",
            ws="none", timeout_graceful_shutdown=1,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.thread.start()

    async def app(self, scope, receive, send):
        if scope["path"] == "/busy":
            self.busy.set()
            await asyncio.to_thread(self.release.wait, PATIENCE)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self, content=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(content)
        return connection

    def close(self):
        self.release.set()
        self.server.should_exit = True
        self.thread.join(PATIENCE)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def is_answered(connection):
    """Whether the whole response comes."""
    content = b""
    while part := connection.recv(1000):
        content += part
        if content.endswith(b"ok"):
            return True
    return False


def is_closed(connection):
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_the_oldest_connection_without_a_request_makes_room(server, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    busy = server.connect(request("/busy"))
    server.busy.wait(PATIENCE)
    first, second, third = (server.connect(b"GET") for _ in range(3))
    assert is_closed(first)
    fourth = server.connect(request("/"))
    assert is_closed(second)
    assert is_answered(fourth)
    server.release.set()
    assert is_answered(busy), "it was the oldest, but had a request"
    for connection in (busy, first, second, third, fourth):
        connection.close()


@pytest.mark.parametrize("content, earlier", [(b"", False), (b"GET / HTT", False), (b"GET / HTT", True)])
def test_a_head_that_does_not_come_ends_the_connection(content, earlier, server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    connection = server.connect()
    if earlier:
        connection.sendall(request("/"))
        assert is_answered(connection)
    connection.sendall(content)
    assert is_closed(connection)
    connection.close()


def test_a_busy_connection_is_not_ended_by_the_limit_on_heads(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    busy = server.connect(request("/busy"))
    server.busy.wait(PATIENCE)
    other = server.connect()
    assert is_closed(other)  # its time is over, and so is that of the first one
    server.release.set()
    assert is_answered(busy)
    busy.close()


def test_a_body_that_does_not_come_is_refused(monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.01)

    async def receive():
        await asyncio.Event().wait()

    headers = Headers({"headers": [(b"content-length", b"10")]})
    refused, _ = asyncio.run(asyncio.wait_for(within_limit(headers, receive, 100), PATIENCE))
    assert refused == (408, "The request took too long to arrive. Send it again.")


@pytest.mark.slow
def test_a_large_head_is_refused_and_a_refusal_hangs_up(place):
    with served("d.h5", "p.h5", "-o", "a.h5", cwd=place) as server:
        for content, says in (
            (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 15), b" 400 "),
            (b"POST /next HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n", b" 403 "),
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
                connection.sendall(content)
                assert says in connection.recv(1000)
                while not is_closed(connection):
                    pass
        assert server.client().ask()["state"] == "open"
