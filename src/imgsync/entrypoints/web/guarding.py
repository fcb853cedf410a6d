"""What every request passes before a page sees it: its size, the host it names, its session."""

import logging
import secrets
from collections.abc import Collection, Iterable, MutableMapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgsync.domain.errors import StoreError
from imgsync.domain.text import shown
from imgsync.entrypoints.web import sessions, words
from imgsync.entrypoints.web.login import COOKIE, set_cookie
from imgsync.entrypoints.web.rendering import go_to

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.web")

PUBLIC = (
    "/login",
    "/static/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/webhooks/",
    "/api/",
)
"""Beginnings of paths that need no session. What needs other credentials checks them itself."""

# /metrics looks at the host itself.
_ANY_HOST = ("/healthz", "/readyz", "/metrics", "/webhooks/", "/api/")
"""Paths that a browser which was led to a wrong host gains nothing by."""
_LARGEST = 1_000_000
_LARGEST_OF_API = 20_000_000
_LANGUAGE = "imgsync_language"
_SAFE = ("GET", "HEAD", "OPTIONS")
_FORM = "application/x-www-form-urlencoded"


class Guard:
    """ASGI middleware. It sets `request.state`: `csrf`, `who`, `nonce`, `may_log_out`."""

    def __init__(self, app: ASGIApp, container: "Container") -> None:
        self._app = app
        self._container = container
        self._hosts = container.config().web_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["nonce"] = nonce
        request = Request(scope, receive)
        asked = request.query_params.get("lang")
        accepted = request.headers.get("accept-language", "")
        words.use(words.chosen(asked, request.cookies.get(_LANGUAGE), accepted))
        shielded = _Shielded(send, nonce, asked if asked in words.LANGUAGES else None)
        if not _begins(path, _ANY_HOST) and not is_known_host(
            request.headers.get("host", ""), self._hosts
        ):
            said = "This host name is not in web_hosts, those that the server answers to.\n"
            await PlainTextResponse(said, 421)(scope, receive, shielded)
            return
        try:
            bounded = _Bounded(
                receive,
                request.headers,
                _LARGEST_OF_API if path.startswith("/api/") else _LARGEST,
            )
            try:
                answer = await self._refusal(request, path, bounded, shielded)
            except StoreError as error:
                _log.error("%s %s: %s", request.method, shown(path), error)
                said = words.gettext("Something went wrong; the log of the server tells what.")
                answer = PlainTextResponse(said + "\n", 503, headers={"Cache-Control": "no-store"})
            await (self._app if answer is None else answer)(scope, bounded, shielded)
        except TooLargeError:
            if not shielded.begun:
                answer = PlainTextResponse("The request is too large.\n", 413)
                await answer(scope, receive, shielded)
        except ClientDisconnect:
            pass  # whoever sent half of it reads no answer

    async def _refusal(
        self, request: Request, path: str, bounded: "_Bounded", shielded: "_Shielded"
    ) -> Response | None:
        """What is answered in place of the page; None where that may be seen."""
        state = request.state
        if path.startswith("/login"):
            return None if request.method in _SAFE or _is_own(request) else _refused()
        if _begins(path, PUBLIC):
            return None
        cookie = request.cookies.get(COOKIE)
        gate = await sessions.gate(self._container.web_secrets(), cookie)
        session = gate.session(cookie)
        state.may_log_out = gate.password_hash is not None
        state.who = "password" if state.may_log_out else "nobody logged in"
        if session is None:
            if request.method not in _SAFE:
                return _refused()
            if state.may_log_out:
                target = path + (f"?{request.url.query}" if request.url.query else "")
                return go_to("/login?next=" + quote(target, safe=""))
            session, new_cookie = gate.new()
            begun = Response()
            set_cookie(request, begun, new_cookie)
            shielded.cookies.append(begun.headers["set-cookie"])
        state.csrf = session.csrf
        if request.method in _SAFE:
            return None
        token = request.headers.get("x-csrf-token", "")
        if not token and request.headers.get("content-type", "").split(";")[0].strip() == _FORM:
            token = await bounded.field("csrf")
        is_right = _is_own(request) and sessions.is_same(session.csrf, token)
        return None if is_right else _refused()


def is_known_host(host: str, known: Collection[str]) -> bool:
    """Whether a ``Host`` is this server's. A name that others may point to it is answered where it
    is configured only (`known`); an address cannot be pointed elsewhere."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").casefold()
    except ValueError:
        return False
    if name == "localhost" or name in {one.casefold() for one in known}:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _refused() -> Response:
    said = words.gettext("This form is out of date. Go back, load the page anew and try again.")
    return PlainTextResponse(said + "\n", 403, headers={"Cache-Control": "no-store"})


def _is_own(request: Request) -> bool:
    """Whether the browser says nothing against the form being a page's of this server."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False


def _begins(path: str, prefixes: Iterable[str]) -> bool:
    return any(path.startswith(prefix) for prefix in prefixes)


class TooLargeError(Exception):
    """The body is larger than any that is taken; the guard answers so."""


class _Bounded:
    """The body of a request, up to a size; `field` reads it before the page does."""

    def __init__(self, receive: Receive, headers: Headers, most: int) -> None:
        self._receive = receive
        self._most = most
        self._seen = 0
        self._read: list[Message] = []
        said = headers.get("content-length", "0")
        if said.isascii() and said.isdigit() and int(said) > most:
            raise TooLargeError

    async def __call__(self) -> Message:
        return self._read.pop(0) if self._read else await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._most:
            raise TooLargeError
        return message

    async def field(self, name: str) -> str:
        """A field of the form that the body is; '' where it has none."""
        body = bytearray()
        while True:
            message = await self._next()
            self._read.append(message)
            body += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        try:
            found = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10_000).get(name)
        except ValueError:
            return ""
        return found[0] if found else ""


class _Shielded:
    """Adds to every answer what keeps a browser from doing more with it than to show it."""

    def __init__(self, send: Send, nonce: str, language: str | None) -> None:
        self._send = send
        self._nonce = nonce
        self.begun = False
        self.cookies: list[str] = []
        if language is not None:
            self.cookies.append(
                f"{_LANGUAGE}={language}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"
            )

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = (
                f"default-src 'self'; script-src 'self' 'nonce-{self._nonce}'; "
                f"style-src 'self' 'nonce-{self._nonce}'; img-src 'self' data:; "
                "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            )
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "same-origin"
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            for cookie in self.cookies:
                headers.append("Set-Cookie", cookie)
        await self._send(message)
