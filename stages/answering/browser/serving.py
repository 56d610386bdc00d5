"""Runs the page's server until all queries are answered, somebody finishes early, or a signal arrives."""

import contextlib
import ipaddress
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator

import uvicorn

from stages.answering.browser.connections import BACKLOG, MOST_HEAD_BYTES, PatientProtocol
from stages.answering.browser.guard import is_loopback
from stages.answering.browser.session import Session
from stages.answering.browser.web import application
from stages.runtime.console import say
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.signals import StopRequest, stop_on_signal

POLL = 0.05  # seconds between checks of the state
LINGER = 3.0  # seconds that open pages have to request the result
GOODBYE = 5  # seconds that pending responses have when the server stops


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """The socket of the page; BadInput if the address is in use or not one of this machine."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"Cannot listen on {host}, port {port}: {reason}. Choose another --host or --port (0: any free port)."
        ) from error
    with contextlib.closing(listener):
        yield listener


def serve(session: Session, host: str, port: int, publish: Callable[[], str]) -> bool:
    """Serves the page, then publishes the ledger; False if a signal arrived first.

    Open pages learn the result before the server stops.
    """
    with stop_on_signal() as stop, listening(host, port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        config = uvicorn.Config(
            application(session, token, host, port),
            http=PatientProtocol,
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
            backlog=BACKLOG,
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GOODBYE,
        )
        server = uvicorn.Server(config)
        # in another thread uvicorn installs no signal handlers; publishing stays in the thread that gets the signals
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="page", daemon=True)
        thread.start()
        if not is_loopback(host):
            warn_of_host(host)
        address = f"{address_of(host, port)}/?token={token}"
        print(f"answer at {address}", flush=True)  # nobody can answer without it
        if session.settings.open and not webbrowser.open(address):
            say("found no browser to open: open the address by hand")
        try:
            wait(session, stop, thread)
            session.close()
            if stop:
                session.end("The server was stopped. Run the same command again and open the address that it prints.")
                return False
            session.end(f"The ledger is written: {publish()}.")
            wait_for_pages(session)
            return True
        except StageFailed as error:
            session.end(f"Cannot write the ledger: {error}")
            raise
        finally:
            session.close()
            session.ended.set()
            server.should_exit = True
            thread.join()


def wait(session: Session, stop: StopRequest, thread: threading.Thread) -> None:
    """Returns when answering has ended for any reason; StageFailed if the server died."""
    while not stop and not session.closed:
        if not thread.is_alive():
            raise StageFailed(
                "The page's server ended unexpectedly. All answers are saved: run the same command again."
            )
        session.ended.wait(POLL)
        session.close_when_complete()


def wait_for_pages(session: Session) -> None:
    """Returns when all open pages know the result, but after `LINGER` seconds at the latest."""
    deadline = time.monotonic() + LINGER
    while session.pages and time.monotonic() < deadline:
        time.sleep(POLL)


def address_of(host: str, port: int) -> str:
    """The address for a browser; a host that means all addresses (0.0.0.0, ::) is replaced by the machine's name."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = socket.gethostname()
        elif address.version == 6:
            host = f"[{host}]"
    return f"http://{host}:{port}"


def warn_of_host(host: str) -> None:
    print(
        f"warning: {host} exposes the page, unencrypted, to the network: whoever has the address sees the images and "
        "can answer",
        file=sys.stderr,
        flush=True,
    )
