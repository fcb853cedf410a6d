"""Solutions: MoySklad's calls to the server of a developer (Vendor API 1.0).

Its tokens are made here by hand, so that no library of the program that is tested has a say.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moysklad_emulator.accounts import EmulatedAccount, EmulatedUser, UserKind
from moysklad_emulator.outgoing import NoReplyError, Reply, send
from moysklad_emulator.state import Emulator

Cause = Literal["Install", "Resume", "TariffChanged", "Autoprolongation", "Uninstall", "Suspend"]
Spoilt = Literal["signature", "algorithm", "expired", "early", "replayed"]
"""A token that is signed with another secret; is not signed; has expired; is of a time to come; was
used before."""

_ENDING: tuple[Cause, ...] = ("Uninstall", "Suspend")
_GIVING: tuple[Cause, ...] = ("Install", "Resume")
_STATUSES = ("Activating", "SettingsRequired", "Activated")
_FAILED = 551
_TOKEN_SECONDS = 300
_RESOURCE = "https://api.moysklad.ru/api/remap/1.2"


@dataclass(slots=True)
class Solution:
    """A solution of a developer. Calls go below `endpoint_base`, to this machine only."""

    endpoint_base: str
    secret: str
    app_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    app_uid: str = "emulated.vendor"
    kind: UserKind = "solution"
    last_token: str | None = None


@dataclass(frozen=True, slots=True)
class VendorCall:
    """What became of a call: the last `status` (None: no answer), the JSON of that answer, and how
    often it was sent. `state`: of the installation from then on."""

    status: int | None
    answer: Any
    attempts: int
    state: str


@dataclass(slots=True)
class _Installation:
    state: str
    token: str | None = None
    user: EmulatedUser | None = None


class Vendor:
    """Solutions, and how each stands on the accounts.

    The token of an account works before its PUT is sent, and ends before its DELETE is. A call is
    sent again with its X_Lognex_RequestId while it is answered 5xx, but not 551, or not in time, as
    long as the limits say; every other answer than 200, of a DELETE 204 too, is a failure: an
    activation that fails costs the token.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._solutions: dict[str, Solution] = {}
        self._there: dict[tuple[str, str], _Installation] = {}

    def add(
        self,
        endpoint_base: str,
        secret: str,
        *,
        app_id: str | None = None,
        app_uid: str = "emulated.vendor",
        kind: UserKind = "solution",
    ) -> Solution:
        """A solution of which nothing is installed. ValueError where there is one of its id."""
        found = str(uuid.uuid4()) if app_id is None else str(uuid.UUID(app_id))
        if found in self._solutions:
            raise ValueError(f"there is a solution {found} already")
        solution = Solution(endpoint_base.rstrip("/"), secret, found, app_uid, kind)
        self._solutions[found] = solution
        return solution

    def solution(self, app_id: str) -> Solution:
        """ValueError where there is none."""
        found = self._solutions.get(app_id.lower())
        if found is None:
            raise ValueError(f"there is no solution {app_id}")
        return found

    def state(self, app_id: str, account_id: str) -> str | None:
        """``Activating``, ``SettingsRequired``, ``Activated``, ``ActivationFailed``, ``Suspended``,
        ``DeactivationFailed``; None where it is not installed."""
        there = self._there.get((app_id.lower(), account_id.lower()))
        return there.state if there else None

    def token(self, app_id: str, account_id: str) -> str | None:
        """The token that the account has given, while it is valid."""
        there = self._there.get((app_id.lower(), account_id.lower()))
        return there.token if there else None

    def call(
        self,
        app_id: str,
        account_id: str,
        cause: Cause,
        *,
        spoilt: Spoilt | None = None,
        with_access: bool = True,
    ) -> VendorCall:
        """What a user or a payment causes, and its call to the end; blocks. ValueError for what is
        unknown. `with_access`: whether the descriptor asks for it."""
        return asyncio.run(
            self.call_async(app_id, account_id, cause, spoilt=spoilt, with_access=with_access)
        )

    def status(self, app_id: str, account_id: str) -> VendorCall:
        """GET, which MoySklad once asked; blocks."""
        solution, account = self._known(app_id, account_id)
        return asyncio.run(self._send(solution, account, "GET", None, 0.0, None))

    async def call_async(
        self,
        app_id: str,
        account_id: str,
        cause: Cause,
        *,
        spoilt: Spoilt | None = None,
        with_access: bool = True,
    ) -> VendorCall:
        """As `call`, in a loop that runs."""
        solution, account = self._known(app_id, account_id)
        key = solution.app_id, account.id
        there = self._there.setdefault(key, _Installation("Activating"))
        limits = self._emulator.limits
        if cause in _ENDING:
            self._end(account, there)
            body = self._body(solution, account, cause, None)
            seconds = limits.vendor_retry_seconds
            told = await self._send(solution, account, "DELETE", body, seconds, spoilt)
            there.state = "Suspended" if cause == "Suspend" else ""
            if told.status not in (200, 204):
                there.state = "DeactivationFailed"
            if not there.state:
                self._there.pop(key, None)
            return VendorCall(told.status, told.answer, told.attempts, there.state)
        if cause in _GIVING and with_access:
            self._end(account, there)
            there.token = secrets.token_hex(20)
            there.user = account.add_user(
                token=there.token, login=solution.app_uid, kind=solution.kind
            )
        token = there.token if cause in _GIVING else None
        seconds = limits.vendor_retry_seconds if cause in _GIVING else limits.vendor_long_seconds
        body = self._body(solution, account, cause, token)
        told = await self._send(solution, account, "PUT", body, seconds, spoilt)
        state = told.answer.get("status") if isinstance(told.answer, dict) else None
        if told.status == 200 and state in _STATUSES:
            there.state = state
        elif cause in _GIVING:
            self._end(account, there)
            there.state = "ActivationFailed"
        return VendorCall(told.status, told.answer, told.attempts, there.state)

    @staticmethod
    def _end(account: EmulatedAccount, there: _Installation) -> None:
        if there.user is not None:
            account.remove_user(there.user)
        there.token, there.user = None, None

    def _known(self, app_id: str, account_id: str) -> tuple[Solution, EmulatedAccount]:
        account = self._emulator.account(account_id)
        if account is None:
            raise ValueError(f"there is no account {account_id}")
        return self.solution(app_id), account

    @staticmethod
    def _body(
        solution: Solution, account: EmulatedAccount, cause: Cause, token: str | None
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "appUid": solution.app_uid,
            "accountName": account.login,
            "cause": cause,
        }
        if token is not None:
            good = {"view": "ALL", "update": "ALL"}
            body["access"] = [
                {
                    "resource": _RESOURCE,
                    "scope": ["custom"],
                    "permissions": {"good": good, "useOwnWebhooks": True},
                    "access_token": token,
                }
            ]
        if cause not in _ENDING:
            body["subscription"] = {
                "tariffId": str(uuid.uuid4()),
                "trial": cause == "Install",
                "tariffName": "Basic",
                "notForResale": False,
                "partner": False,
            }
        return body

    async def _send(
        self,
        solution: Solution,
        account: EmulatedAccount,
        method: str,
        body: Mapping[str, Any] | None,
        retry_seconds: float,
        spoilt: Spoilt | None,
    ) -> VendorCall:
        limits, attempts = self._emulator.limits, 0
        request_id, token = str(uuid.uuid4()), _token(solution, spoilt)
        path = f"/api/moysklad/vendor/1.0/apps/{solution.app_id}/{account.id}"
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        began = time.monotonic()
        while True:
            headers = {
                "Authorization": f"Bearer {token}",
                "X_Lognex_RequestId": request_id,
                "Content-Type": "application/json",
            }
            attempts += 1
            status, answer = None, None
            try:
                reply = await send(
                    method,
                    solution.endpoint_base + path,
                    content,
                    headers,
                    seconds=limits.vendor_seconds,
                )
                status, answer = reply.status, _json_of(reply)
            except NoReplyError:
                pass
            final = status is not None and (status < 500 or status == _FAILED)
            if final or time.monotonic() - began + limits.vendor_retry_interval > retry_seconds:
                return VendorCall(status, answer, attempts, "")
            await asyncio.sleep(limits.vendor_retry_interval)
            if self._emulator.dialect.vendor_retries == "signed_anew":
                token = _token(solution, spoilt)


def _json_of(reply: Reply) -> Any:
    if reply.headers.get("content-type", "").partition(";")[0] != "application/json":
        return None
    try:
        return json.loads(reply.body)
    except ValueError:
        return None


def _token(solution: Solution, spoilt: Spoilt | None) -> str:
    """A new JSON Web Token, or a spoilt one."""
    if spoilt == "replayed":
        if solution.last_token is None:
            raise ValueError("no token was used before")
        return solution.last_token
    moved = {"expired": -3600, "early": 3600}.get(spoilt or "", 0)
    issued = int(time.time()) + moved
    alg = "none" if spoilt == "algorithm" else "HS256"
    claims = {"iat": issued, "exp": issued + _TOKEN_SECONDS, "jti": secrets.token_urlsafe(24)}
    signed = ".".join(_base64(json.dumps(part)) for part in ({"alg": alg, "typ": "JWT"}, claims))
    if spoilt == "algorithm":
        return f"{signed}."
    secret = solution.secret[::-1] + "x" if spoilt == "signature" else solution.secret
    mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    token = f"{signed}.{_base64(mac)}"
    if spoilt is None:
        solution.last_token = token
    return token


def _base64(part: str | bytes) -> str:
    data = part.encode() if isinstance(part, str) else part
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
