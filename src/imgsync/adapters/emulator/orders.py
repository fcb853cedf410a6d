"""Faults from JSON, for another process."""

import re
from typing import Annotated

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, field_validator

from imgsync.adapters.emulator.faults import Fault, Faults, Framing, Where
from imgsync.adapters.emulator.hostile import Body

_Size = Annotated[int, Field(ge=0)]


class FaultOrder(BaseModel):
    """A `Fault` as JSON; `raw` and `body_bytes` are base64, all else is named as there."""

    model_config = ConfigDict(extra="forbid")

    method: str = "GET"
    path_regex: str = ""
    times: Annotated[int, Field(ge=1)] = 1
    where: Where = "api"
    delay: Annotated[float, Field(ge=0)] = 0.0
    hold_after: _Size | None = None
    drop_connection: bool = False
    never: bool = False
    raw: Base64Bytes | None = None
    status: int | None = None
    code: int | None = None
    headers: dict[str, str] = {}
    answer_status: int | None = None
    body: Body | None = None
    body_bytes: Base64Bytes | None = None
    cut_to: _Size | None = None
    framing: Framing | None = None
    content_length: int | str | None = None
    endless: bool = False
    bytes_per_second: Annotated[float, Field(gt=0)] | None = None
    twice: bool = False
    drop_after_bytes: _Size | None = None

    @field_validator("path_regex")
    @classmethod
    def _is_regex(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is no regular expression: {error}") from None
        return value

    def add_to(self, faults: Faults) -> Fault:
        effects = dict(self)  # model_dump() would pack the bytes again
        if (body := effects.pop("body_bytes")) is not None:
            effects["body"] = body
        return faults.add(**effects)
