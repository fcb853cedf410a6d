"""Faults and calls of solutions from JSON, for another process."""

import base64
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from moysklad_emulator.accounts import UserKind
from moysklad_emulator.faults import Fault, Faults, Framing, Where
from moysklad_emulator.hostile import Body
from moysklad_emulator.vendor import Cause, Spoilt


def _from_base64(value: object) -> object:
    """Strict: pydantic's own type reads what is no base64 as no bytes at all."""
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


_Bytes = Annotated[bytes, BeforeValidator(_from_base64)]
_Size = Annotated[int, Field(ge=0)]


class FaultOrder(BaseModel):
    """A `Fault` as JSON; `raw` and `body_bytes` are base64, all else is named as there."""

    model_config = ConfigDict(extra="forbid")

    method: str = "GET"
    path_regex: str = ""
    times: Annotated[int, Field(ge=1)] = 1
    where: Where = "api"
    delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    hold_after: _Size | None = None
    drop_connection: bool = False
    never: bool = False
    raw: _Bytes | None = None
    status: int | None = None
    code: int | None = None
    headers: dict[str, str] = {}
    answer_status: int | None = None
    body: Body | None = None
    body_bytes: _Bytes | None = None
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
        """ValueError for what `Fault` refuses."""
        effects = dict(self)  # model_dump() would pack the bytes again
        if (body := effects.pop("body_bytes")) is not None:
            if self.body is not None:
                raise ValueError("fault: body and body_bytes exclude each other")
            effects["body"] = body
        return faults.add(**effects)


class SolutionOrder(BaseModel):
    """A new `Solution`."""

    model_config = ConfigDict(extra="forbid")

    endpoint_base: str
    secret: Annotated[str, Field(min_length=1)]
    app_id: str | None = None
    app_uid: str = "emulated.vendor"
    kind: UserKind = "solution"


class CallOrder(BaseModel):
    """What happens to a solution on an account, as `Vendor.call` takes it."""

    model_config = ConfigDict(extra="forbid")

    app_id: str
    account_id: str
    cause: Cause
    spoilt: Spoilt | None = None
