"""Numbers for Prometheus, read from the store at each scrape."""

import asyncio
import hmac
import math
from collections.abc import Coroutine, Iterable
from importlib.metadata import version
from ipaddress import ip_address
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar, cast

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from imgsync.application.apikeys import opened_by
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.ports.figures import Figures
from imgsync.domain.runs import TIME_BOUNDS
from imgsync.entrypoints.web.guarding import is_known_host

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_T = TypeVar("_T")
_PATIENCE_SECONDS = 5.0
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def routes(container: "Container") -> list[BaseRoute]:
    scrapes = _Scrapes(container)
    return [Route("/metrics", scrapes.answer)]


class _Scrapes:
    """Answers scrapes. Of the database they ask one thing at a time, and those that come together
    share what is read: one that hangs holds one of its threads, however often it is scraped."""

    def __init__(self, container: "Container") -> None:
        self._container = container
        self._asked: asyncio.Task[Any] | None = None
        self._reading: asyncio.Task[Figures | None] | None = None

    async def answer(self, request: Request) -> Response:
        found, status = None, 503
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if not await self._may_see(request):
                    said = "The metrics need the token that is configured, or the key of a program."
                    return PlainTextResponse(f"{said}\n", 403)
                found, status = await self._figures(), 200
        except TimeoutError:
            pass
        except ImgsyncError:  # so that nobody can tell whether that is a key
            return PlainTextResponse("The database cannot be used.\n", 503)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(FiguresCollector(found))
        text = generate_latest(registry)
        return Response(text, status, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _may_see(self, request: Request) -> bool:
        token = self._container.config().metrics_token
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = given.strip()
            if token and hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
                return True
            keys = self._container.api_keys()
            return await self._ask(opened_by(keys, given)) is not None
        # What a proxy on this machine passes on comes from loopback, too.
        if not _is_loopback(request) or any(name in request.headers for name in _FORWARDED):
            return False
        # A page in a browser on this machine may have a name that leads here.
        return is_known_host(request.headers.get("host", ""), self._container.config().web_hosts)

    async def _figures(self) -> Figures | None:
        if self._reading is None or self._reading.done():
            self._reading = None
            return await self._ask(self._read(), reads=True)
        return await asyncio.shield(self._reading)

    async def _read(self) -> Figures | None:
        try:
            return await self._container.figures()()
        except ImgsyncError:
            return None

    async def _ask(self, question: Coroutine[Any, Any, _T], *, reads: bool = False) -> _T:
        try:
            while self._asked is not None and not self._asked.done():
                await asyncio.wait({self._asked})
        except BaseException:
            question.close()
            raise
        asked = self._asked = asyncio.create_task(question)
        # What fails when nobody waits any more is nobody's.
        asked.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if reads:
            self._reading = cast("asyncio.Task[Figures | None]", asked)
        return await asyncio.shield(asked)


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


class FiguresCollector(Collector):
    """The metrics of `figures`; None where the store could not be read."""

    def __init__(self, figures: Figures | None) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        found = self._figures
        yield GaugeMetricFamily(
            "imgsync_up", "1 where the database could be read.", value=float(found is not None)
        )
        build = GaugeMetricFamily("imgsync_build_info", "Always 1.", labels=["version"])
        build.add_metric([version("imgsync")], 1)
        yield build
        if found is None:
            return
        tasks = GaugeMetricFamily("imgsync_tasks", "Tasks.", labels=["child", "status"])
        for key, count in found.tasks.items():
            tasks.add_metric(key, count)
        yield tasks
        yield GaugeMetricFamily(
            "imgsync_oldest_due_seconds", "Since when a task has been due.", value=found.oldest_due
        )
        for name, what in (
            ("requests", "Requests"),
            ("units", "Units of the rate limit"),
            ("too_many", "Answers 429"),
            ("images", "Images copied"),
            ("bytes", "Bytes of images copied"),
            ("events", "Events of webhooks that came"),
            ("dropped", "Of these, events dropped as they had come before"),
        ):
            text = f"{what} since the beginning of the UTC day."
            of_webhooks = {"events": "webhook_events", "dropped": "webhook_events_dropped"}
            whole = f"imgsync_{of_webhooks.get(name, name)}"
            counter = CounterMetricFamily(whole, text, labels=["account"])
            for used in found.used:
                counter.add_metric([used.account], getattr(used, name))
            yield counter
        failed = GaugeMetricFamily(
            "imgsync_failed_images", "Images that could not be copied.", labels=["child", "settled"]
        )
        for (child, settled), count in found.failed_images.items():
            failed.add_metric([child, str(settled).lower()], count)
        yield failed
        proofs = GaugeMetricFamily(
            "imgsync_last_equal_timestamp_seconds",
            "When the child was last found equal, 0 for never.",
            labels=["child"],
        )
        for child, at in found.proofs.items():
            proofs.add_metric([child], at.timestamp() if at else 0)
        yield proofs
        yield GaugeMetricFamily(
            "imgsync_parked_accounts", "Accounts that take no requests.", value=len(found.parked)
        )
        times = HistogramMetricFamily(
            "imgsync_task_seconds",
            "How long attempts at tasks took, since the database was made.",
            labels=["kind", "end"],
        )
        for key, taken in sorted(found.times.items()):
            counts = accumulate(taken.tasks.get(bound, 0) for bound in TIME_BOUNDS)
            buckets = [
                ("+Inf" if bound == math.inf else str(bound), count)
                for bound, count in zip(TIME_BOUNDS, counts, strict=True)
            ]
            times.add_metric(key, buckets, taken.seconds)
        yield times
        yield GaugeMetricFamily(
            "imgsync_webhook_events_waiting",
            "Events of webhooks that nobody has acted upon yet.",
            value=found.waiting_events,
        )
        yield GaugeMetricFamily(
            "imgsync_webhook_events_oldest_seconds",
            "Since when an event of a webhook has been waiting.",
            value=found.oldest_event,
        )
        webhooks = GaugeMetricFamily(
            "imgsync_webhooks",
            "Webhooks of an account, as last looked at.",
            labels=["account", "state"],
        )
        heard = GaugeMetricFamily(
            "imgsync_webhook_last_event_timestamp_seconds",
            "When the account's webhooks brought an event last, 0 for never.",
            labels=["account"],
        )
        for account, of in sorted(found.webhooks.items()):
            for state in ("wanted", "working", "switched_off"):
                webhooks.add_metric([account, state], getattr(of, state))
            heard.add_metric([account], of.last_event.timestamp() if of.last_event else 0)
        yield webhooks
        yield heard
