"""Pages from templates."""

from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from babel.dates import format_datetime, format_skeleton, format_time
from babel.numbers import format_decimal
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from imgsync.entrypoints.web import words
from imgsync.entrypoints.web.plain import in_words, without_addresses, without_urls


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page in the language of whoever is answered. Beside `values` a template has `language`,
    `languages`, `csrf` (the token for forms), `nonce` (of scripts and styles), `may_log_out`,
    `path`, `here` and what `environment` gives to all."""
    state = request.state
    page = environment().get_template(template)
    text = page.render(
        language=words.language(),
        languages=words.LANGUAGES,
        csrf=getattr(state, "csrf", ""),
        nonce=state.nonce,
        may_log_out=getattr(state, "may_log_out", False),
        is_in=getattr(state, "csrf", "") != "",
        path=request.url.path,
        here=lambda **changes: _here(request, changes),
        **values,
    )
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})


def go_to(path: str) -> Response:
    """After a change: the page that shows it."""
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})


@cache
def environment() -> Environment:
    """Filters: `moment` and `clock` show a time in the server's zone, `number` a number, `size`
    bytes, `without_addresses` an error in the program's own words, `in_words` in plain ones where
    there are some. No value brings an address of another server into a page."""
    made = Environment(
        loader=PackageLoader("imgsync.entrypoints.web"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=without_urls,
    )
    made.install_gettext_callables(  # type: ignore[attr-defined]
        words.gettext, words.ngettext, newstyle=True
    )
    made.filters |= {"moment": moment, "clock": clock, "number": number, "size": size}
    made.filters |= {"without_addresses": without_addresses, "in_words": in_words}
    return made


def moment(at: datetime | None) -> Markup:
    """Date and time, in the server's zone, for people and for programs; the year where it is not
    this one."""
    if at is None:
        return Markup("—")
    here, language = at.astimezone(), words.language()
    if here.year == datetime.now().astimezone().year:
        day = format_skeleton("MMMd", here, locale=language)
        shown = f"{day}, {format_time(here, 'short', locale=language)}"
    else:
        shown = format_datetime(here, "medium", locale=language)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), shown)


def clock(at: datetime | None) -> str:
    """The time of the day; with the date where that is not today."""
    if at is None:
        return "—"
    here = at.astimezone()
    if here.date() == datetime.now().astimezone().date():
        return format_time(here, "short", locale=words.language())
    return format_datetime(here, "short", locale=words.language())


def number(value: float) -> str:
    return format_decimal(value, locale=words.language())


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit, least in ((words.gettext("GB"), 1e9), (words.gettext("MB"), 1e6)):
        if value >= least:
            return f"{format_decimal(value / least, '0.0', words.language())} {unit}"
    return f"{format_decimal(value / 1e3, '0.0', words.language())} {words.gettext('kB')}"


def _here(request: Request, changes: dict[str, Any]) -> str:
    """This page with other parameters."""
    asked = {**request.query_params, **{name: str(value) for name, value in changes.items()}}
    return f"?{urlencode(asked)}"
