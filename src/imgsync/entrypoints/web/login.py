"""Logging in and out."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.domain.logins import Admission, LoginLimits, is_known, known_browser, stranger_at
from imgsync.entrypoints.web import sessions
from imgsync.entrypoints.web.auditing import audit
from imgsync.entrypoints.web.rendering import go_to, render
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

COOKIE = "imgsync_session"
BROWSER_COOKIE = "imgsync_browser"
LIMITS = LoginLimits()
_AGAIN_AFTER = {Admission.OWN: LIMITS.lately, Admission.CROWD: timedelta(hours=1)}


def routes(container: "Container") -> list[BaseRoute]:
    # A password takes a while to check: browsers that are known do not wait behind strangers.
    lane_of = {True: asyncio.Semaphore(1), False: asyncio.Semaphore(1)}

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
        name = gate.browser(request.cookies.get(BROWSER_COOKIE))
        origin = stranger_at(address) if name is None else known_browser(name)
        attempts = container.login_attempts()
        admission = await attempts.begin(origin, LIMITS)
        if admission is not Admission.CHECKED:
            return refused(request, admission, target)
        async with lane_of[is_known(origin)]:
            is_right = await asyncio.to_thread(sessions.is_right, given, gate.password_hash)
        if not is_right:
            said = _("This is not the password.")
            return render(request, "login.html", status=403, target=target, trouble=said)
        await attempts.forget(origin)
        request.state.who = "password"
        await audit(request, "login", address)
        answer = go_to(target)
        set_cookie(request, answer, gate.new()[1])
        _put_cookie(
            request, answer, BROWSER_COOKIE, gate.new_browser(name), sessions.KNOWN_FOR, "/login"
        )
        return answer

    def refused(request: Request, admission: Admission, target: str) -> Response:
        said = {
            Admission.OWN: _("Too many wrong passwords. Try again in a quarter of an hour."),
            Admission.CROWD: _(
                "Passwords are being guessed from many places. Log in with a browser that you have "
                "logged in with before, or try again in an hour."
            ),
        }[admission]
        answer = render(request, "login.html", status=429, target=target, trouble=said)
        answer.headers["Retry-After"] = str(int(_AGAIN_AFTER[admission].total_seconds()))
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
    _put_cookie(request, answer, COOKIE, value, sessions.LIFETIME, "/")


def _put_cookie(
    request: Request, answer: Response, name: str, value: str, lasts: timedelta, path: str
) -> None:
    is_secure = request.url.scheme == "https" or request.app.state.container.config().web_https
    answer.set_cookie(
        name,
        value,
        max_age=int(lasts.total_seconds()),
        path=path,
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
