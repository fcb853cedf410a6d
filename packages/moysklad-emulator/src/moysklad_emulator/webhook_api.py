"""Endpoints of webhooks (section Webhooks)."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from moysklad_emulator.accounts import EmulatedAccount, EmulatedUser
from moysklad_emulator.answers import empty_answer, json_answer
from moysklad_emulator.bodies import read_json
from moysklad_emulator.documents import Documents
from moysklad_emulator.errors import ApiError, api_error
from moysklad_emulator.links import Links
from moysklad_emulator.queries import PAGE_PARAMETERS, View, check_parameters, parse_page
from moysklad_emulator.state import Emulator
from moysklad_emulator.uploads import href_of, refuse_unknown

_FIELDS = frozenset(
    {
        "meta",
        "id",
        "accountId",
        "authorApplication",
        "entityType",
        "url",
        "method",
        "enabled",
        "action",
        "diffType",
    }
)


class WebhookApi:
    """Handlers; ``request.user`` is the authenticated `Caller`."""

    def __init__(self, emulator: Emulator, links: Links) -> None:
        self._emulator = emulator
        self._limits = emulator.limits
        self._links = links

    async def list_all(self, request: Request) -> Response:
        check_parameters(request.query_params, PAGE_PARAMETERS)
        page = parse_page(request.query_params, self._limits)
        hooks = _account(request).seen_webhooks(_user(request))
        return json_answer(self._documents(request).webhook_page(hooks, page))

    async def get(self, request: Request) -> Response:
        check_parameters(request.query_params, ())
        hook = _account(request).webhook(_user(request), request.path_params["id"])
        return json_answer(self._documents(request).webhook(hook))

    async def post(self, request: Request) -> Response:
        """Creates and updates webhooks: those with a meta exist. Of an array each for itself."""
        check_parameters(request.query_params, ())
        data = await read_json(request, self._limits)
        if isinstance(data, list):
            return self._each(data, lambda item: self._element(request, item))
        return json_answer(self._element(request, data))

    async def put(self, request: Request) -> Response:
        check_parameters(request.query_params, ())
        data = await read_json(request, self._limits)
        if isinstance(data, list):
            raise api_error(2009)
        webhook_id = request.path_params["id"]
        hook = _account(request).update_webhook(_user(request), webhook_id, _checked(data))
        return json_answer(self._documents(request).webhook(hook))

    async def delete(self, request: Request) -> Response:
        check_parameters(request.query_params, ())
        _account(request).delete_webhook(_user(request), request.path_params["id"])
        return empty_answer()

    async def delete_many(self, request: Request) -> Response:
        """Deletes the webhooks that an array names by meta."""
        check_parameters(request.query_params, ())
        data = await read_json(request, self._limits)
        if not isinstance(data, list):
            raise api_error(2005, detail="an array")

        def delete(item: Any) -> Any:
            webhook_id = self._links.entity_id(href_of(item, "webhook"), "webhook")
            _account(request).delete_webhook(_user(request), webhook_id)
            return {"info": f"'webhook' {webhook_id} is deleted"}

        return self._each(data, delete)

    def _element(self, request: Request, data: Any) -> Any:
        item = _checked(data)
        account, user = _account(request), _user(request)
        if "meta" in item:
            webhook_id = self._links.entity_id(href_of(item, "webhook"), "webhook")
            hook = account.update_webhook(user, webhook_id, item)
        else:
            hook = account.create_webhook(user, item)
        return self._documents(request).webhook(hook)

    def _each(self, data: list[Any], work: Any) -> Response:
        answers, status = [], 200
        for item in data:
            try:
                answers.append(work(item))
            except ApiError as error:
                answers.append(error.body())
                status = self._emulator.dialect.bulk_error_status
        return json_answer(answers, status)

    def _documents(self, request: Request) -> Documents:
        return Documents(self._links, _account(request), View(), self._emulator.dialect)


def _checked(item: Any) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise api_error(2005, detail="an object")
    refuse_unknown(item, _FIELDS)
    return item


def _user(request: Request) -> EmulatedUser:
    user: EmulatedUser = request.user.emulated
    return user


def _account(request: Request) -> EmulatedAccount:
    return _user(request).account
