"""Access control of the page: the token, the server's names, the page's origin, and limits on request bodies."""

import asyncio
import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

MOST_REQUEST_BYTES = 1 << 16
BODY_SECONDS = 20.0  # for a body to arrive, and in addition ...
SLOWEST_BYTES = 1 << 16  # ... a second for so many bytes
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
# Sent with each response. Nothing is cached: another server may use the same address for other images.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NO_TOKEN = "Open the address that `alseg annotate` printed: it contains the token for this page."

RequestScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[RequestScope, Receive, Send], Awaitable[None]]


class Guard:
    """Passes only requests to ``app`` that carry the token and come from the page itself."""

    def __init__(self, app: App, token: str, host: str, port: int, uploads: Mapping[str, int]):
        self.app, self.token, self.host = app, token, host
        self.uploads = uploads  # path prefix -> largest body, in bytes
        self.cookie = f"alseg-annotate-{port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: RequestScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope)
        opening = scope["path"] == "/" and self.matches(parse_qs(scope["query_string"].decode("latin-1")).get("token"))
        refused = self.refusal(headers, opening)
        if refused is None:
            limits = [most for path, most in self.uploads.items() if scope["path"].startswith(path)]
            refused, receive = await within_limit(headers, receive, max(limits, default=MOST_REQUEST_BYTES))
        extra = dict(HEADERS)
        if opening:
            extra["Set-Cookie"] = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in extra.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        if refused is None:
            await self.app(scope, receive, send_with_headers)
            return
        extra.pop("Set-Cookie", None)
        await refuse(*refused, send_with_headers)

    def refusal(self, headers: "Headers", opening: bool) -> tuple[int, str] | None:
        """Status and sentence for a request that is not allowed; None if it is allowed."""
        host, origin = headers.only("host"), headers.only("origin")
        if host is None or not is_ours(name_in(host), self.host):
            return 403, "This server does not have that name. Open the address that `alseg annotate` printed."
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "This request comes from another site. Open the address that `alseg annotate` printed."
        if not opening and not self.knows_token(headers):
            return 403, NO_TOKEN
        return None

    def knows_token(self, headers: "Headers") -> bool:
        bearer = (headers.only("authorization") or "").removeprefix("Bearer ")
        try:
            morsel = SimpleCookie(headers.only("cookie") or "").get(self.cookie)
        except CookieError:
            morsel = None
        return self.matches([bearer, morsel.value if morsel is not None else ""])

    def matches(self, tokens: list[str] | None) -> bool:
        return any(secrets.compare_digest(text.encode(), self.token.encode()) for text in tokens or ())


class Headers:
    """The headers of a request."""

    def __init__(self, scope: RequestScope):
        self.pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def only(self, name: str) -> str | None:
        """The value of ``name``; None if it is absent, an empty string if it occurs twice."""
        values = [value for known, value in self.pairs if known == name]
        return values[0] if len(values) == 1 else "" if values else None


def name_in(host: str) -> str:
    """The name or address of a Host header, without port; empty if it is malformed."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", host)
    return found[1].strip("[]").lower() if found else ""


def is_ours(name: str, host: str) -> bool:
    """Whether ``name`` is a name of a server bound to ``host``; pages of other sites cannot have such a name.

    The port is not compared, because it differs behind a tunnel.
    """
    if name in ("localhost", host.lower()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and not is_loopback(host) and name in (socket.gethostname().lower(), socket.getfqdn().lower())
    return address.is_loopback or not is_loopback(host)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def within_limit(headers: Headers, receive: Receive, most: int) -> tuple[tuple[int, str] | None, Receive]:
    """Reads a body of up to ``most`` bytes that arrives in time.

    Returns why it is refused (None if it is not), and a function to receive it again.
    """
    too_large = 413, f"The request is larger than {most} bytes. Send less."
    announced = headers.only("content-length") or "0"
    if not announced.isdecimal() or len(announced) > 9 or int(announced) > most:
        return too_large, receive
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS + int(announced) / SLOWEST_BYTES):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return (400, "The request ended early."), receive
                body += message.get("body", b"")
                if len(body) > most:
                    return too_large, receive
                if not message.get("more_body"):
                    break
    except TimeoutError:
        return (408, "The request took too long to arrive. Send it again."), receive
    whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def receive_again() -> Message:
        return whole.pop() if whole else await receive()

    return None, receive_again


async def refuse(status: int, sentence: str, send: Send) -> None:
    """Responds, then hangs up, because the rest of the request may never come."""
    content = (sentence + "\n").encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
