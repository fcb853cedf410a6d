"""What concerns an account as a whole names it, the server, and what a person can do."""

import httpx
import pytest

from imgsync.adapters.moysklad.answers import UNKNOWN_OWNER, element_error, error_of
from imgsync.domain.errors import AuthorisationError, ParkingError, StorageFullError
from imgsync.domain.troubles import TODO, Trouble, trouble_of
from imgsync.entrypoints.translation import speaking, translated

URL = "https://api.example:8443/api/remap/1.2/entity/product"


def errors(code: int) -> dict[str, list[dict[str, object]]]:
    return {"errors": [{"error": "Refused", "code": code}]}


def answer(status: int) -> httpx.Response:
    asked = httpx.Request("GET", f"{URL}?filter=secret")
    return httpx.Response(status, request=asked)


@pytest.mark.parametrize(
    ("status", "code", "trouble"),
    [
        (401, 1056, Trouble.REFUSED),
        (429, 1048, Trouble.REFUSED),
        (401, None, Trouble.REFUSED),
        (403, 1061, Trouble.NO_API),
        (400, 51003, Trouble.FULL),
    ],
)
def test_account_server_and_remedy_are_named(
    status: int, code: int | None, trouble: Trouble
) -> None:
    body = None if code is None else errors(code)
    error = error_of(answer(status), body, "Омск", "c1")
    assert isinstance(error, ParkingError)
    said = str(error)
    assert said.startswith(f"MoySklad account 'Омск': {status} ")
    assert said.endswith(f" [GET {URL}]; {TODO[trouble]}")
    assert trouble_of(said) is trouble
    assert error.account_id == "c1"
    with speaking("ru", is_for_programs=False):
        told = translated(said)
    assert TODO[trouble] not in told


def test_of_one_entity_among_others_too() -> None:
    full = element_error(errors(51003), "Омск", "c1", "https://api.example/api")
    assert isinstance(full, StorageFullError)
    assert str(full) == (
        "MoySklad account 'Омск': Refused (code 51003) [https://api.example/api]; "
        + TODO[Trouble.FULL]
    )
    other = element_error(errors(51004), "Омск", "c1", "https://api.example/api")
    assert str(other) == "MoySklad account 'Омск': Refused (code 51004)"


def test_credentials_that_are_tried_are_of_no_account_that_could_be_mended() -> None:
    error = error_of(answer(401), errors(1056), UNKNOWN_OWNER, "unknown")
    assert isinstance(error, AuthorisationError)
    assert str(error) == f"401 Refused (code 1056) [GET {URL}]"


def test_what_concerns_one_request_is_told_as_before() -> None:
    said = str(error_of(answer(404), errors(1021), "Омск", "c1"))
    assert said.endswith("404 Refused (code 1021) [GET /api/remap/1.2/entity/product]")
