"""Documented error codes, their HTTP statuses and the shape of an error answer.

Source: sections "Error handling" and "Errors". The titles are the emulator's own words. The
documentation gives no status to a code: those here follow its list of statuses, and are a guess.
"""

from collections.abc import Mapping
from typing import Any

_MORE_INFO = "https://dev.moysklad.ru/doc/api/remap/1.2/#error_{code}"

_CATALOGUE: dict[int, tuple[int, str]] = {
    1002: (404, "Unknown path"),
    1005: (404, "Unknown type '{type}'"),
    1007: (400, "The emulator does not know the field '{parameter}'"),
    1012: (400, "The element does not name an object by meta"),
    1021: (404, "Object of type '{type}' with id '{id}' is not found"),
    1034: (400, "Bad filter: {detail}"),
    1035: (400, "Bad filter: '{detail}' is no date"),
    1037: (415, "Content-Type is not application/json"),
    1039: (405, "The method is not supported here"),
    1040: (400, "Bad request parameter: {detail}"),
    1041: (400, "Bad value '{detail}' of the filter '{parameter}'"),
    1044: (413, "The request is too large"),
    1049: (429, "Too many requests in the interval"),
    1056: (401, "Authentication failed"),
    1059: (400, "The href names another server"),
    1061: (403, "The user has no access to the API"),
    1062: (400, "Accept is not 'application/json;charset=utf-8'"),
    1073: (429, "Too many parallel requests"),
    1089: (400, "expand of '{detail}' is not supported"),
    1096: (400, "Bad order: the emulator does not sort"),
    2001: (400, "The body is not JSON"),
    2005: (400, "The body is not {detail}"),
    2006: (400, "Objects are nested too deeply"),
    2007: (413, "An array has more than {maximum} elements"),
    2010: (400, "The meta has no href"),
    2009: (400, "A request for one entity must not have an array"),
    2011: (400, "The meta has no type"),
    2014: (400, "Field '{parameter}' has no meta"),
    2016: (400, "The value of field '{parameter}' is of another type"),
    2024: (400, "The href is that of another type than '{detail}'"),
    3000: (412, "Field '{parameter}' must not be empty or left out"),
    3001: (400, "Field '{parameter}' cannot be changed"),
    3030: (400, "The emulator does not play the header '{parameter}'"),
    3005: (400, "Field '{parameter}' cannot be '{detail}'"),
    3040: (400, "Field '{parameter}' is longer than {maximum} characters"),
    3042: (400, "fields takes one supported value"),
    30000: (400, "Webhook: the emulator plays no type '{detail}'"),
    30001: (400, "Webhook: unknown HTTP method '{detail}'; POST is known"),
    30002: (400, "Webhook: unknown action '{detail}'; CREATE, UPDATE, DELETE are known"),
    30003: (412, "Webhook: there is one with these parameters"),
    30004: (403, "Webhook: the rights of an administrator are needed"),
    30005: (400, "Webhook: url is no address of http or https"),
    30006: (403, "Webhook: the tariff does not allow to create or update any"),
    30007: (412, "Webhook: not more than {maximum} of one kind on one type"),
    30008: (400, "Webhook: action '{detail}' is not one of CREATE, UPDATE, DELETE"),
    30009: (400, "Webhook: diffType is not for {detail}, but for UPDATE"),
    30010: (400, "Webhook: url is longer than 255 characters"),
    51001: (412, "Image: no content"),
    51002: (400, "Image: the content is not a jpg or png in base64"),
    51003: (400, "Image: the storage is full"),
    51004: (400, "Image: larger than {maximum} MB"),
    51005: (412, "Image: no file name"),
    51006: (400, "Image: more than {maximum} on one object"),
    51007: (503, "Image: the file storage is unavailable"),
    55005: (403, "The context of a solution is not for a user"),
    55006: (403, "The context of a user is not for a solution"),
}

IMAGE_CODES = range(51001, 51008)
"""Codes of images, whose statuses no source names."""


class ApiError(Exception):
    """A request that the API refuses. `code` is None where the answer has no body."""

    def __init__(
        self,
        status: int,
        code: int | None = None,
        title: str = "",
        *,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code} {title}")
        self.status = status
        self.code = code
        self.title = title
        self.parameter = parameter
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """``{"errors":[{"error","code","moreInfo","parameter"?}]}``."""
        error: dict[str, Any] = {
            "error": self.title,
            "code": self.code,
            "moreInfo": _MORE_INFO.format(code=self.code),
        }
        if self.parameter is not None:
            error["parameter"] = self.parameter
        return {"errors": [error]}


class MovedError(Exception):
    """The path has a UI uuid; the object is at `location` (answer 308)."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


def api_error(
    code: int,
    *,
    parameter: str | None = None,
    headers: Mapping[str, str] | None = None,
    **values: object,
) -> ApiError:
    """The error of a documented code; `values` fill its title."""
    status, title = _CATALOGUE[code]
    title = title.format(parameter=parameter, **values)
    return ApiError(status, code, title, parameter=parameter, headers=headers)


def injected_error(status: int, code: int) -> ApiError:
    """An error of any status and code, for fault injection."""
    title = _CATALOGUE.get(code, (status, "Injected fault"))[1]
    return ApiError(status, code, title)


def not_found(type_name: str, object_id: str) -> ApiError:
    """404 with code 1021."""
    return api_error(1021, type=type_name, id=object_id)
