"""The most telling numbers of all parts, as README has them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.results import Part
from benchmarks.tables import NONE, Answer

Rows = Iterator[tuple[str, str, str, str]]

_COLUMNS = ("Question", "imgsync", "Limit or goal", "Beside it")
_LATENCIES = ("0 ms", "300 ms")


def summary(parts: Mapping[str, Part]) -> Answer:
    """KeyError where there is no such part, ValueError where one lacks a row."""
    shown = Answer("What was measured last", _COLUMNS)
    for name, rows in _ROWS.items():
        for row in rows(parts[name].answers):
            shown.add(*row)
    return shown


def _calls(answers: Sequence[Answer]) -> Rows:
    (calls,) = answers
    phases = ("First copy", "Nothing changed", "1 % changed*")

    def of(account: str, column: str) -> str:
        same = {"Permanent links": "yes", "Account": account}
        return _all(calls.cell(column, {"What": phase, **same}) for phase in phases)

    catalogue = calls.rows[0][1]
    what = f"{catalogue}: first copy; nothing changed; 1 % changed"
    yield f"Requests of a child, {what}", of("child", "Requests"), of("child", "Limit"), NONE
    yield "Requests of main for the same", of("main", "Requests"), of("main", "Limit"), NONE
    together = {"What": "Survey alone", "Account": "all together"}
    yield (
        f"Requests of all accounts where nothing has changed, {calls.cell('Catalogue', together)}",
        calls.cell("Requests", together),
        calls.cell("Limit", together),
        NONE,
    )


def _adopt(answers: Sequence[Answer]) -> Rows:
    (adopt,) = answers

    def of(first: str, second: str) -> str:
        each = ({"Adopted by": mode, "Permanent links": "yes"} for mode in ("size", "hash", "none"))
        return _all(f"{adopt.cell(first, one)}, {adopt.cell(second, one)}" for one in each)

    catalogue = adopt.question.partition(": ")[2]
    yield (
        "Requests of main and of the child beside which a new database begins, equal pictures, "
        f"{catalogue}: adopted by size; by hash; by none",
        of("Requests: main", "Requests: child"),
        NONE,
        NONE,
    )
    yield (
        "MB of the child's pictures down, and up",
        of("MB down: child", "MB up: child"),
        NONE,
        NONE,
    )


def _pictures(answers: Sequence[Answer]) -> Rows:
    (pictures,) = answers
    sizes = list(dict.fromkeys(pictures.find("Megapixels", {})))
    for edit, what in (
        ("fit", "Fit a photograph"),
        ("convert", "Convert one (WEBP to JPEG)"),
        ("optimise", "Optimise one (1600 pixels, quality 80)"),
    ):
        of_edit = [{"Edit": edit, "Megapixels": size, "At once": "1"} for size in sizes]
        milliseconds = _all(pictures.cell("ms a picture", one) for one in of_edit)
        peak = _all(pictures.cell("MB peak", one) for one in of_edit)
        bound = pictures.cell("Bound", of_edit[0])
        yield (
            f"{what} of {', '.join(sizes)} megapixels: ms; peak MB of its process",
            f"{milliseconds} ms; {peak} MB",
            f"{bound} MB",
            NONE,
        )


def _speed(answers: Sequence[Answer]) -> Rows:
    free, limited = answers
    for answer, how in ((limited, "with"), (free, "without")):
        for latency in _LATENCIES:
            where = {"Latency": latency}
            rates = {
                program: _median(answer.cell("Images/s*", {**where, "Program": program}))
                for program in ("imgsync", "plain script", "bulk script")
            }
            goal, share = NONE, answer.cell("Of the plain script", {**where, "Program": "imgsync"})
            if answer is free:
                goal = f"{answer.cell('Goal', {**where, 'Program': 'imgsync'})} of the plain script"
            yield (
                f"Images a second {how} the rate limit, {latency} of latency",
                f"{rates.pop('imgsync')} ({share} of the plain script)",
                goal,
                "; ".join(f"{program} {rate}" for program, rate in rates.items()),
            )
    where = {"Latency": "0 ms"}
    cost = {
        program: _median(free.cell("CPU ms/image*", {**where, "Program": program}))
        for program in ("imgsync", "plain script", "bulk script")
    }
    yield (
        "CPU of an image without it, ms",
        cost.pop("imgsync"),
        NONE,
        "; ".join(f"{program} {one}" for program, one in cost.items()),
    )
    refused = sum(int(one) for one in limited.find("429", {"Program": "imgsync"}))
    yield "Answers 429 in these runs", str(refused), "0", NONE


def _pace(answers: Sequence[Answer]) -> Rows:
    (pace,) = answers
    used = pace.find("Units used", {})
    processes = list(dict.fromkeys(pace.find("Processes", {})))
    weights = list(dict.fromkeys(pace.find("Weight", {})))
    yield (
        f"Share of a token's units that {', '.join(processes)} processes use, weights "
        f"{' and '.join(weights)}: least; most",
        _all((min(used, key=_percent), max(used, key=_percent))),
        pace.rows[0][pace.columns.index("Goal")],
        NONE,
    )


def _growth(answers: Sequence[Answer]) -> Rows:
    survey, copy = answers
    sizes = survey.find("Entities", {})
    yield (
        f"Peak MB of a survey that queues a task for each of {'; '.join(sizes)} entities",
        _all(survey.find("with enqueue", {})),
        survey.rows[0][survey.columns.index("Goal")],
        NONE,
    )
    catalogues = copy.find("Catalogue", {"Program": "imgsync"})
    yield (
        f"Peak MB of a copy of {'; '.join(catalogues)}",
        _all(copy.find("Peak MB", {"Program": "imgsync"})),
        copy.rows[0][copy.columns.index("Goal")],
        f"plain script {_all(copy.find('Peak MB', {'Program': 'plain script'}))}",
    )
    last = {"Entities": sizes[-1]}
    yield (
        f"A survey of two accounts with {sizes[-1]} entities, seconds for 10,000 (of CPU); "
        "the diff of them",
        f"{survey.cell('Survey s*', last)} ({survey.cell('of it CPU s', last)}); "
        f"{survey.cell('Diff s*', last)}",
        NONE,
        NONE,
    )


def _reception(answers: Sequence[Answer]) -> Rows:
    (reception,) = answers
    baseline, *servers = reception.find("Server", {})
    for server in servers:
        where = {"Server": server}
        told = {name: reception.cell(name, where) for name in ("99 %", "Most", "Failed")}
        yield (
            f"Webhooks, 200 a second, answered within 100 ms ({server})",
            f"{reception.cell('Within 100 ms', where)} (99 % within {told['99 %']} ms, all within "
            f"{told['Most']} ms, {told['Failed']} failed)",
            f"{reception.cell('Goal', where)}; MoySklad gives it 1,500 ms",
            f"{baseline} {reception.cell('Within 100 ms', {'Server': baseline})}",
        )


def _listing(answers: Sequence[Answer]) -> Rows:
    (listing,) = answers
    for name in ("queue status", "queue list", "one claim"):
        where = {"ms": name}
        yield (
            f"A queue of a million tasks, {name}: median ms on SQLite; on PostgreSQL",
            _all(listing.cell(f"{kind}, median", where) for kind in ("SQLite", "PostgreSQL")),
            listing.cell("Goal", where),
            NONE,
        )


def _startup(answers: Sequence[Answer]) -> Rows:
    (startup,) = answers
    where = {"Command": "imgsync --version"}
    yield (
        "Seconds that `imgsync --version` takes",
        startup.cell("median", where),
        startup.cell("Goal", where),
        f"python -c pass {startup.cell('median', {'Command': 'python -c pass'})}",
    )


_ROWS = {
    "calls": _calls,
    "adopt": _adopt,
    "pictures": _pictures,
    "speed": _speed,
    "pace": _pace,
    "growth": _growth,
    "reception": _reception,
    "listing": _listing,
    "startup": _startup,
}
"""By the name of the part."""


def _all(cells: Iterable[str]) -> str:
    return "; ".join(cells)


def _median(told: str) -> str:
    """Of "least / median / most", or of the one there is."""
    shown = told.split(" / ")
    return shown[len(shown) // 2]


def _percent(told: str) -> float:
    return float(told.removesuffix("%"))
