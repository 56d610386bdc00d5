"""Runs the page's server until everything is answered, somebody ends it, or a signal comes."""

import contextlib
import ipaddress
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn

from stages.answering.browser.guard import is_loopback
from stages.answering.browser.session import Session
from stages.answering.browser.web import application
from stages.runtime.console import say
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.signals import StopRequest, stop_on_signal
from stages.settings.annotate import PeopleSettings

LOOK_AGAIN = 0.05  # seconds between looks at what happened
LINGER = 3.0  # seconds that pages get to ask how it came out
GOODBYE = 5  # seconds that answers under way get when the server stops


@contextlib.contextmanager
def listening(settings: PeopleSettings) -> Iterator[socket.socket]:
    """The socket of the page; BadInput when the address is taken or none of this machine's."""
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"Cannot serve the page on {settings.host}, port {settings.port}: {reason}; choose another --host or "
            "--port (0: any that is free)."
        ) from error
    with contextlib.closing(listener):
        yield listener


def serve(session: Session, settings: PeopleSettings, publish: Callable[[], str]) -> bool:
    """Serves the page and publishes once the answering is over; False when a signal came before.

    The pages learn how it came out before the server goes.
    """
    with stop_on_signal() as stop, listening(settings) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        config = uvicorn.Config(
            application(session, token, settings.host, port),
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
        # in a thread uvicorn leaves the signals alone, and publishing stays in the thread that gets them
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="page", daemon=True)
        thread.start()
        if not is_loopback(settings.host):
            warn_of_host(settings.host)
        say(f"answer at {address_of(settings.host, port)}/?token={token}")
        try:
            wait(session, stop, thread)
            session.close()
            if stop:
                session.end("The server was stopped. Start the same command again and open the address that it prints.")
                return False
            session.end("The ledger is written: " + publish())
            wait_for_pages(session)
            return True
        except StageFailed as error:
            session.end(f"The ledger could not be written: {error}")
            raise
        finally:
            session.close()
            session.ended.set()
            server.should_exit = True
            thread.join()


def wait(session: Session, stop: StopRequest, thread: threading.Thread) -> None:
    """Returns when the answering is over, whatever the reason."""
    while not stop and not session.closed:
        if not thread.is_alive():
            raise StageFailed("The page's server ended by itself; all answers are kept, run the same command again.")
        session.ended.wait(LOOK_AGAIN)
        session.close_when_complete()


def wait_for_pages(session: Session) -> None:
    """Returns when all pages know the outcome, or none of the others asks for it in time."""
    deadline = time.monotonic() + LINGER
    while session.pages and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN)


def address_of(host: str, port: int) -> str:
    """What a browser takes; a host that stands for all addresses is called by the machine's name."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = socket.gethostname()
        elif address.version == 6:
            host = f"[{host}]"
    return f"http://{host}:{port}"


def warn_of_host(host: str) -> None:
    print(
        f"warning: {host} is not only this machine; who can reach it and has the address sees the images and can "
        "answer, and nothing is encrypted",
        file=sys.stderr,
        flush=True,
    )
