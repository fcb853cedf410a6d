"""Copies are measured as they are, and what is no copy is not measured."""

import asyncio
import time

import httpx
import pytest
from benchmarks.catalogue import MAIN, Catalogue, Shop, WrongCopyError, child_name, opened
from benchmarks.programs import BULK, IMGSYNC, PLAIN, ProgramError, copy
from benchmarks.scripts import Account

from benchmarks import speed
from moysklad_emulator.process import emulator_process

SMALL = Catalogue(entities=2, images=2, image_bytes=500)
FALSE = "tests.benchmarks.false_copy"


@pytest.mark.parametrize(
    ("program", "requests"),
    # Two lists; of the plain script an address and a picture for each image, and a list to set.
    [(PLAIN, 2 + 4 + 2), (BULK, 2 + 1)],
)
def test_the_scripts_make_the_requests_that_they_are_compared_for(
    program: str, requests: int
) -> None:
    found = copy(program, SMALL)
    assert found.requests == requests
    assert found.throttled == 0
    assert found.images_per_second == 4 / found.seconds
    assert found.megabytes_per_second == pytest.approx(0.0005 * found.images_per_second)


def test_imgsync_is_measured_with_its_survey() -> None:
    found = copy(IMGSYNC, SMALL)
    assert 2 + 1 <= found.requests <= 12
    assert 1 <= found.units < found.requests
    assert 0.01 < found.seconds < 30
    assert 0 < found.cpu_milliseconds < 10_000
    assert 20_000_000 < found.peak_bytes < 300_000_000


@pytest.mark.parametrize(
    ("kind", "problem"), [("nothing", "x0 has"), ("fewer", "3 of 4 images were copied")]
)
def test_a_copy_that_is_none_is_not_measured(kind: str, problem: str) -> None:
    with pytest.raises(WrongCopyError, match=problem):
        copy(f"{FALSE} {kind}", SMALL)


def test_a_program_that_ends_is_not_measured() -> None:
    with pytest.raises(ProgramError, match="ended with status 3"):
        copy(f"{FALSE} ends", SMALL)


def test_other_bytes_of_equal_name_and_size_are_no_copy() -> None:
    catalogue = Catalogue(entities=1, images=1, image_bytes=500, copied=True)
    accounts = [catalogue.account(name) for name in (MAIN, child_name(0))]
    accounts[1]["entities"][0]["images"][0]["seed"] = "other"
    with emulator_process({"accounts": accounts}) as emulator:
        shop = Shop(emulator, catalogue)
        with pytest.raises(WrongCopyError, match="the bytes of 0-0"):
            shop.judge()
        shop.close()


def test_a_child_that_lacks_a_product_is_no_copy() -> None:
    catalogue = Catalogue(entities=2, images=1, image_bytes=500, copied=True)
    accounts = [catalogue.account(name) for name in (MAIN, child_name(0))]
    del accounts[1]["entities"][0]
    with emulator_process({"accounts": accounts}) as emulator:
        shop = Shop(emulator, catalogue)
        with pytest.raises(WrongCopyError, match="1 of 2 products"):
            shop.judge()
        shop.close()


def test_every_answer_is_late_until_the_judge_comes() -> None:
    catalogue = Catalogue(entities=1, images=1, image_bytes=500, copied=True)
    with opened(catalogue, rate_interval=0.2) as shop:
        shop.delay(30)
        url = f"{shop.emulator.api_url}/entity/product"
        headers = {"Authorization": f"Bearer {MAIN}"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(url, headers=headers, timeout=0.2, trust_env=False)
        began = time.monotonic()
        shop.judge()
        assert time.monotonic() - began < 20


def test_a_script_waits_for_its_units() -> None:
    moments: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        moments.append(time.monotonic())
        return httpx.Response(200, json={})

    async def ask(interval: float) -> None:
        moments.clear()
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            account = Account(http, "https://api.invalid", "token", interval)
            await asyncio.gather(*(account.ask("GET", "x") for _ in range(100)))

    asyncio.run(ask(0.4))
    assert all(
        later - earlier >= 0.4 for earlier, later in zip(moments, moments[45:], strict=False)
    )
    asyncio.run(ask(0.02))  # no limit at all
    assert moments[-1] - moments[0] < 0.4


@pytest.mark.parametrize(
    ("units", "latency", "seconds"), [(45, 0, 0), (60, 0, 1), (5, 0.3, 0.3), (345, 0.3, 20.7)]
)
def test_units_take_their_time(units: int, latency: float, seconds: float) -> None:
    assert speed.least_seconds(units, latency) == pytest.approx(seconds)


@pytest.mark.slow
def test_the_tables_of_speed_set_imgsync_beside_the_scripts() -> None:
    free, limited = speed.answers(SMALL, 1, [0.0])
    programs = ["imgsync", "plain script", "bulk script"]
    assert [row[2] for row in free.rows] == [row[1] for row in limited.rows] == programs
    assert free.rows[1][6] == limited.rows[1][3] == "1.00"
    assert float(free.rows[0][6]) == pytest.approx(
        float(free.rows[0][3]) / float(free.rows[1][3]), abs=0.02
    )
