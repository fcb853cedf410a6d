"""The web application, put together of the modules that have its routes."""

import logging
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from imgsync.domain.errors import ImgsyncError, UnknownAccountError
from imgsync.domain.text import shown
from imgsync.entrypoints.web import (
    accounts,
    api,
    auditing,
    differences,
    failures,
    health,
    live,
    login,
    metrics,
    pages,
    reception,
    runs,
    tasks,
    vendor,
)
from imgsync.entrypoints.web.guarding import Guard
from imgsync.entrypoints.web.plain import in_words
from imgsync.entrypoints.web.rendering import render
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.web")
_MODULES = (
    pages,
    login,
    auditing,
    api,
    health,
    metrics,
    reception,
    differences,
    tasks,
    runs,
    live,
    accounts,
    vendor,
    failures,
)
"""Each has `routes(container)`."""


def app_of(container: "Container") -> Starlette:
    """The application. `app.state.container` is the container."""
    listed: list[BaseRoute] = [route for module in _MODULES for route in module.routes(container)]
    static = StaticFiles(packages=[("imgsync.entrypoints.web", "static")])
    app = Starlette(
        routes=[*listed, Mount("/static", static)],
        middleware=[Middleware(Guard, container=container)],
        exception_handlers={
            HTTPException: _not_so,
            ImgsyncError: _trouble,
            Exception: _unexpected,
        },
    )
    # It would lead to whatever host the request names.
    app.router.redirect_slashes = False
    app.state.container = container
    return app


async def _not_so(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if request.url.path.startswith(api.ROOT):
        taken = {404: "There is no such resource", 405: f"It does not take {request.method}"}
        return api.problem(status, taken.get(status, "This request cannot be understood"))
    said = {
        404: _("There is no such page."),
        405: _("This page does not take such a request."),
    }.get(status) or _("This request cannot be understood.")
    return render(request, "trouble.html", status=status, trouble=said)


async def _trouble(request: Request, error: Exception) -> Response:
    if isinstance(error, UnknownAccountError):
        return render(request, "trouble.html", status=404, trouble=_("There is no such account."))
    _log.error("%s %s: %s", request.method, shown(request.url.path), error)
    return render(request, "trouble.html", status=500, trouble=in_words(str(error)))


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, shown(request.url.path), exc_info=error)
    if request.url.path.startswith(api.ROOT):
        return api.problem(500, "Something went wrong; the log of the server tells what")
    return PlainTextResponse(
        _("Something went wrong; the log of the server tells what.") + "\n", 500
    )
