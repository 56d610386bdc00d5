"""A server of files on this machine, which can break off, ignore ranges and refuse, and notes what was requested."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Served:
    """``files``: name -> content. ``breaks_after``: bytes of the body after which the connection ends, once."""

    files: dict[str, bytes]
    breaks_after: int | None = None
    ranges: bool = True
    url: str = ""
    requested: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving(files: dict[str, bytes], breaks_after: int | None = None, ranges: bool = True) -> Iterator[Served]:
    served = Served(files, breaks_after, ranges)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            span = self.headers.get("Range")
            served.requested.append((self.path, span))
            content = served.files.get(self.path.lstrip("/"))
            if content is None:
                return self.send_error(404)
            start = int(span.removeprefix("bytes=").rstrip("-")) if span and served.ranges else 0
            if start and start >= len(content):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if served.breaks_after is not None:
                body, served.breaks_after = body[: served.breaks_after], None
            self.wfile.write(body)
            return None

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
