"""How many requests each account gets, beside the fewest that there can be."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from benchmarks.catalogue import MAIN, NO_LIMIT, PAGE, Catalogue, Shop, account_id, opened
from benchmarks.programs import ENQUEUE, IMGSYNC, PAYLOADS, SURVEY, WORK, started
from benchmarks.tables import NONE, Answer, ratio

MAX_REQUEST_BYTES = 20_000_000
GOAL = 1.1
"""Most that a number of requests may be, as a multiple of the limit."""
_BY_PAYLOAD = "One changed, by payload"
_ELEMENT_BYTES = 60
"""JSON around the base64 text of one upload, about."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The fewest requests that can do it, of main's account and of each child's."""

    main: int
    child: int

    @classmethod
    def unchanged(cls, catalogue: Catalogue) -> "Budget":
        pages = ceil(catalogue.entities / PAGE)
        return cls(pages, pages)

    @classmethod
    def first_copy(cls, catalogue: Catalogue, *, permanent_links: bool) -> "Budget":
        pages = ceil(catalogue.entities / PAGE)
        images = catalogue.total_images
        return cls(
            pages + (0 if permanent_links else images),
            pages + _uploads(images, catalogue.image_bytes, catalogue.entities),
        )

    @classmethod
    def changed(cls, catalogue: Catalogue, entities: int, *, permanent_links: bool) -> "Budget":
        """One image of each of so many entities is another."""
        pages = ceil(catalogue.entities / PAGE)
        return cls(
            pages + (0 if permanent_links else entities),
            pages + _uploads(entities, catalogue.image_bytes, entities),
        )

    @classmethod
    def one(cls, *, permanent_links: bool) -> "Budget":
        """One image of one product is another, and it is told which product."""
        return cls(1 + (0 if permanent_links else 1), 2)


def _uploads(images: int, image_bytes: int, entities: int) -> int:
    encoded = images * (4 * ceil(image_bytes / 3) + _ELEMENT_BYTES)
    return max(ceil(encoded / MAX_REQUEST_BYTES), ceil(entities / PAGE))


@dataclass(frozen=True, slots=True)
class Calls:
    """Requests, units and answers 429 of main's account, and of the child that had most; `limit` is
    what `Budget` names for that account."""

    what: str
    catalogue: Catalogue
    permanent_links: bool
    requests: tuple[int, int]
    units: tuple[int, int]
    throttled: tuple[int, int]
    limit: Budget

    @property
    def ratios(self) -> tuple[float, float]:
        main, child = self.requests
        return main / self.limit.main, child / self.limit.child


def measure(catalogue: Catalogue, *, permanent_links: bool) -> Iterator[Calls]:
    """A first copy, a run when nothing has changed, one when 1 % has, and payloads of one product
    that has, as a webhook's listener would write them. WrongCopyError where a child does not have
    main's images then; RuntimeError where other than what has changed becomes a task."""
    few = ceil(catalogue.entities / 100)
    links = permanent_links
    with (
        opened(catalogue, rate_interval=NO_LIMIT, permanent_links=permanent_links) as shop,
        started(IMGSYNC, shop) as program,
    ):
        for what, changed, limit in (
            ("First copy", catalogue.entities, Budget.first_copy(catalogue, permanent_links=links)),
            ("Nothing changed", 0, Budget.unchanged(catalogue)),
            (f"1 % changed ({few})", few, Budget.changed(catalogue, few, permanent_links=links)),
            (_BY_PAYLOAD, 1, Budget.one(permanent_links=links)),
        ):
            if what != "First copy":
                shop.change(changed)
            payloads = json.dumps(shop.payloads()) if what == _BY_PAYLOAD else None
            shop.emulator.reset_stats()
            found = program.do(PAYLOADS, payloads) if payloads else program.do(ENQUEUE)
            if found.count != changed * catalogue.children:
                raise RuntimeError(f"{what}: {found.count} tasks are queued")
            program.do(WORK)
            calls = _calls(what, shop, limit, permanent_links=permanent_links)
            shop.judge()
            yield calls


def measure_survey(catalogue: Catalogue) -> Calls:
    """One survey of a catalogue of which nothing is copied, as the requests are the same."""
    with (
        opened(catalogue, rate_interval=NO_LIMIT) as shop,
        started(IMGSYNC, shop) as program,
    ):
        found = program.do(SURVEY).count
        if found != catalogue.entities * catalogue.children:
            raise RuntimeError(f"{found} entities were surveyed")
        return _calls("Survey alone", shop, Budget.unchanged(catalogue), permanent_links=True)


def _calls(what: str, shop: Shop, limit: Budget, *, permanent_links: bool) -> Calls:
    accounts = shop.emulator.stats()["accounts"]
    nothing = {"requests": 0, "units": 0, "throttled": 0}
    main = accounts.pop(account_id(MAIN), nothing)
    children = accounts.values() or [nothing]

    def both(name: str) -> tuple[int, int]:
        return main[name], max(child[name] for child in children)

    return Calls(
        what,
        shop.catalogue,
        permanent_links,
        both("requests"),
        both("units"),
        both("throttled"),
        limit,
    )


def answer(linked: Catalogue, unlinked: Catalogue, surveyed: Catalogue) -> Answer:
    """`measure` of one catalogue with permanent links and of one without them, and
    `measure_survey` of a third."""
    shown = Answer(
        "Requests of each account",
        ("What", "Catalogue", "Permanent links", "Account", "Requests", "Units", "429", "Limit",
         "Ratio", "Goal"),
        notes=(
            "Limit: the fewest requests that can do it, for M entities with I images of B encoded "
            "bytes. A survey: ⌈M/100⌉ of each account. A first copy adds I for main, none with "
            "permanent links, and max(⌈B / 20 MB⌉, ⌈M/100⌉) for each child; a change of c entities "
            "the same for what has changed. One product that a payload names: 1 and its new images "
            "for main, 2 for each child.",
            "Not in the limit: a survey asks main once for each other entity type (bundles, "
            "variants, …), of which there are none here.",
            "Child: the one that had most requests. Unit: what the rate limit counts; here a "
            "request costs one. After each run the images of every child are compared with main's.",
        ),
    )  # fmt: skip
    for catalogue, permanent_links in ((linked, True), (unlinked, False)):
        for calls in measure(catalogue, permanent_links=permanent_links):
            _add(shown, calls)
    calls = measure_survey(surveyed)
    _add(shown, calls)
    total = calls.requests[0] + calls.requests[1] * surveyed.children
    limit = calls.limit.main + calls.limit.child * surveyed.children
    shown.add(
        calls.what, str(surveyed), "yes", "all together", f"{total:,}", NONE, NONE, f"{limit:,}",
        ratio(total, limit), f"≤ {GOAL}",
    )  # fmt: skip
    return shown


def _add(shown: Answer, calls: Calls) -> None:
    for number, account in enumerate(("main", "child")):
        limit = (calls.limit.main, calls.limit.child)[number]
        shown.add(
            calls.what,
            str(calls.catalogue),
            "yes" if calls.permanent_links else "no",
            account,
            f"{calls.requests[number]:,}",
            f"{calls.units[number]:,}",
            str(calls.throttled[number]),
            f"{limit:,}",
            ratio(calls.requests[number], limit),
            f"≤ {GOAL}",
        )
