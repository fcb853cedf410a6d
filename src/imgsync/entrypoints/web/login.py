"""Logging in and out."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.entrypoints.web import sessions
from imgsync.entrypoints.web.auditing import audit
from imgsync.entrypoints.web.rendering import go_to, render
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

COOKIE = "imgsync_session"
WITHIN = timedelta(minutes=15)
MOST = 10
"""Attempts of one address in that time."""
MOST_OF_ALL = 100


def routes(container: "Container") -> list[BaseRoute]:
    async def page(request: Request) -> Response:
        cookie = request.cookies.get(COOKIE)
        gate = await sessions.gate(container.web_secrets(), cookie)
        target = local(request.query_params.get("next"))
        if gate.password_hash is None or gate.session(cookie):
            return go_to(target)
        return render(request, "login.html", target=target, trouble="")

    async def log_in(request: Request) -> Response:
        form = await request.form()
        given, target = str(form.get("password", "")), local(str(form.get("next", "")))
        gate = await sessions.gate(container.web_secrets())
        if gate.password_hash is None:
            return go_to(target)
        address = request.client.host if request.client else "?"
        attempts = container.login_attempts()
        attempt = await attempts.begin(address, within=WITHIN, most=MOST, most_of_all=MOST_OF_ALL)
        if attempt is None:
            said = _("Too many wrong passwords. Try again in a quarter of an hour.")
            answer = render(request, "login.html", status=429, target=target, trouble=said)
            answer.headers["Retry-After"] = str(int(WITHIN.total_seconds()))
            return answer
        if not await asyncio.to_thread(sessions.is_right, given, gate.password_hash):
            said = _("This is not the password.")
            return render(request, "login.html", status=403, target=target, trouble=said)
        await attempts.forget(address)
        request.state.who = "password"
        await audit(request, "login", address)
        answer = go_to(target)
        set_cookie(request, answer, gate.new()[1])
        return answer

    async def log_out(request: Request) -> Response:
        # The guard has let nobody here without a session.
        await sessions.end(container.web_secrets(), request.cookies.get(COOKIE, ""))
        answer = go_to("/login")
        answer.delete_cookie(COOKIE, path="/")
        return answer

    return [
        Route("/login", page),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
    ]


def set_cookie(request: Request, answer: Response, value: str) -> None:
    is_secure = request.url.scheme == "https" or request.app.state.container.config().web_https
    answer.set_cookie(
        COOKIE,
        value,
        max_age=int(sessions.LIFETIME.total_seconds()),
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="strict",
    )


def local(target: str | None) -> str:
    """A path of this server, whatever was asked for."""
    text = target or "/"
    if not text.startswith("/") or text[1:2] in ("/", "\\") or not text.isprintable():
        return "/"
    return "/" + quote(text[1:], safe="/?=&%+-._~:,;@!*()")
