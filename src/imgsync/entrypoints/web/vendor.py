"""MoySklad's Vendor API 1.0: what it tells of the accounts that install our solutions.

Its calls are signed as JSON Web Tokens. What it is answered tells nothing of what is stored, as
anybody may ask; why a call was refused stands in the log. 4xx makes MoySklad give an installation
up, so that whatever may pass is answered 503, upon which it tries again.
"""

import json
import logging
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from imgsync.application.accounts import printable_name
from imgsync.application.solutions import LONGEST_NAME, id_of
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.solutions import CallMethod, InstallationState, SolutionCall, Verdict
from imgsync.domain.text import shown

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

PATH = "/api/moysklad/vendor/1.0/apps/{app_id}/{account_id}"
LEEWAY = timedelta(seconds=60)
"""By which MoySklad's clock and ours may differ."""

_LONGEST = timedelta(days=2)
"""MoySklad's tokens last five minutes, and a request is repeated for up to a day."""

_LARGEST_BODY = 100_000
_LONGEST_CAUSE = 50
_QUIET_SECONDS = 60.0
_OPTIONS: Any = {"require": ["iat", "exp", "jti"], "verify_aud": False, "verify_sub": False}

_log = logging.getLogger("imgsync.solutions")


class _AnswerError(Exception):
    """A call that is not heeded; `reason` is for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


_SAID = {
    400: "The request cannot be understood",
    401: "The token of the request is not valid",
    404: "The solution is not installed",
    413: "The request is too large",
    503: "Not now; try again",
}


@dataclass(frozen=True, slots=True)
class _Token:
    """What a JSON Web Token tells."""

    id: str
    issued_at: datetime
    expires_at: datetime


class _Seldom:
    """Logs one refusal a minute, as anybody may send more."""

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def warn(self, reason: str) -> None:
        if time.monotonic() < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more before)" if self._left_out else ""
        _log.warning("a call to the address of solutions was refused: %s%s", reason, more)
        self._next, self._left_out = time.monotonic() + _QUIET_SECONDS, 0


def routes(container: "Container") -> list[BaseRoute]:
    refusals = _Seldom()

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except _AnswerError as error:
            refusals.warn(error.reason)
            return _refusal(error.status)
        except ClientDisconnect:
            return _refusal(503)  # which nobody reads
        except ImgsyncError as error:
            _log.error("a call of MoySklad cannot be heeded now: %s", error)
            return _refusal(503)

    async def answer(request: Request) -> Response:
        app_id, account_id = (id_of(request.path_params[n]) for n in ("app_id", "account_id"))
        if app_id is None or account_id is None:
            raise _AnswerError(404, "its address names no solution and account")
        token = await token_of(request, app_id)
        body = await _body(request)
        call = _call(request, app_id, account_id, token, body)
        try:
            taken = await container.take_call()(call)
        except ValueError as error:
            raise _AnswerError(400, f"of account {account_id}, {error}") from None
        told = f"'{call.account_name or account_id}', {call.cause or call.method}"
        match taken.verdict:
            case Verdict.REPLAYED:
                raise _AnswerError(401, f"its token was used before ({told})")
            case Verdict.NO_TOKEN:
                raise _AnswerError(
                    400, f"it brings no token ({told}); the descriptor has to ask for access"
                )
            case Verdict.UNKNOWN:
                raise _AnswerError(503, f"nothing is known of this installation yet ({told})")
        if call.method is not CallMethod.GET:
            _log.info("solution %s on account %s: %s", app_id, told, taken.verdict)
        is_on = taken.installation and taken.installation.state is InstallationState.INSTALLED
        if call.method is CallMethod.DELETE:
            return Response(status_code=200, media_type="application/json")
        if call.method is CallMethod.GET and not is_on:
            return _refusal(404)
        return JSONResponse({"status": "Activated"})

    async def token_of(request: Request, app_id: str) -> _Token:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.casefold() != "bearer":
            raise _AnswerError(401, "it has no token")
        solution = await container.solutions().get(app_id)
        if solution is None:
            raise _AnswerError(
                401, f"solution {app_id} is not stored ('imgsync solution add' does that)"
            )
        return _checked(given.strip(), solution.secret)

    return [Route(PATH, answered, methods=[method.value for method in CallMethod])]


def _refusal(status: int) -> Response:
    headers = {"Retry-After": "10"} if status == 503 else None
    return JSONResponse({"error": _SAID[status]}, status, headers)


def _checked(given: str, secret: str) -> _Token:
    try:
        with warnings.catch_warnings():
            # The length of the secret is MoySklad's matter.
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
            claims = jwt.decode(
                given, secret, algorithms=["HS256"], options=_OPTIONS, leeway=LEEWAY
            )
        token = _Token(str(claims["jti"]), _moment(claims["iat"]), _moment(claims["exp"]))
    except jwt.ImmatureSignatureError:
        raise _AnswerError(
            401, "its token is of a time to come; is the clock of this machine right?"
        ) from None
    except jwt.ExpiredSignatureError:
        raise _AnswerError(
            401, "its token has expired; is the clock of this machine right?"
        ) from None
    except jwt.InvalidSignatureError:
        raise _AnswerError(401, "it is not signed with the secret key of the solution") from None
    except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
        raise _AnswerError(401, f"its token is not valid: {shown(str(error))[:200]}") from None
    if not token.id or token.expires_at - token.issued_at > _LONGEST:
        raise _AnswerError(401, "its token has no id, or lasts longer than two days")
    return token


def _moment(seconds: Any) -> datetime:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("a time is no number")
    return datetime.fromtimestamp(seconds, UTC)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of the body; {} where it is empty. Of a DELETE, whatever it is: the token
    has ended, and to refuse that would not bring it back."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BODY:
            raise _AnswerError(413, "its body is too large")
    if not body:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if request.method == CallMethod.PUT:
        raise _AnswerError(400, "its body is no JSON object")
    return {}


def _call(
    request: Request, app_id: str, account_id: str, token: _Token, body: dict[str, Any]
) -> SolutionCall:
    method = CallMethod(request.method)
    access = _access_token(body) if method is CallMethod.PUT else None
    return SolutionCall(
        app_id,
        account_id,
        method,
        token.id,
        # As documented; proxies are wont to drop a name with an underscore.
        request.headers.get("x_lognex_requestid") or request.headers.get("x-lognex-requestid"),
        token.issued_at,
        token.expires_at,
        printable_name(_text(body, "cause"))[:_LONGEST_CAUSE],
        printable_name(_text(body, "accountName"))[:LONGEST_NAME],
        access,
    )


def _text(body: dict[str, Any], name: str) -> str:
    found = body.get(name)
    return found if isinstance(found, str) else ""


def _access_token(body: dict[str, Any]) -> str | None:
    """Of the JSON API, which is the only resource that there is."""
    listed = body.get("access")
    for access in listed if isinstance(listed, list) else ():
        found = access.get("access_token") if isinstance(access, dict) else None
        if isinstance(found, str) and found:
            if len(found) > 1000:
                raise _AnswerError(400, "the token of the account is too long")
            return found
    return None
