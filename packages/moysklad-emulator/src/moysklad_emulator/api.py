"""Endpoints of the API (sections Product, Images, Links to files)."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router

from moysklad_emulator.accounts import EmulatedAccount, EmulatedEntity, EmulatedUser
from moysklad_emulator.answers import empty_answer, error_answer, json_answer
from moysklad_emulator.bodies import read_json
from moysklad_emulator.checks import EXPIRATION_HEADER
from moysklad_emulator.dialect import Dialect
from moysklad_emulator.documents import Documents
from moysklad_emulator.edits import EntityEditor
from moysklad_emulator.entity_rules import RULES
from moysklad_emulator.errors import (
    IMAGE_CODES,
    ApiError,
    MovedError,
    api_error,
    not_found,
)
from moysklad_emulator.links import API_PREFIX, Links
from moysklad_emulator.queries import (
    ENTITY_PARAMETERS,
    LIST_PARAMETERS,
    PAGE_PARAMETERS,
    Filter,
    View,
    check_parameters,
    parse_filter,
    parse_images_view,
    parse_page,
    parse_view,
)
from moysklad_emulator.state import Emulator
from moysklad_emulator.uploads import ElementParser, href_of
from moysklad_emulator.webhook_api import WebhookApi

_SECONDS = re.compile(r"[0-9]{1,9}")


class Api:
    """Handlers; ``request.user`` is the authenticated `Caller`."""

    def __init__(self, emulator: Emulator, links: Links) -> None:
        self._emulator = emulator
        self._limits = emulator.limits
        self._links = links

    def routes(self) -> list[Route]:
        """Every route, for the application and for the names in the counters."""
        webhooks = WebhookApi(self._emulator, self._links)
        image_list = "/entity/{type}/{id}/images"
        table = (
            ("GET", "/context/employee", self.employee),
            ("GET", "/context/application", self.application_context),
            ("GET", "/entity/organization", self.list_organizations),
            ("GET", "/entity/webhook", webhooks.list_all),
            ("POST", "/entity/webhook", webhooks.post),
            ("POST", "/entity/webhook/delete", webhooks.delete_many),
            ("GET", "/entity/webhook/{id}", webhooks.get),
            ("PUT", "/entity/webhook/{id}", webhooks.put),
            ("DELETE", "/entity/webhook/{id}", webhooks.delete),
            ("GET", "/entity/{type}", self.list_entities),
            ("POST", "/entity/{type}", self.post_entities),
            ("POST", "/entity/{type}/delete", self.delete_entities),
            ("GET", "/entity/{type}/{id}", self.get_entity),
            ("PUT", "/entity/{type}/{id}", self.put_entity),
            ("DELETE", "/entity/{type}/{id}", self.delete_entity),
            ("GET", image_list, self.list_images),
            ("POST", image_list, self.change_images),
            ("POST", f"{image_list}/delete", self.delete_images),
            ("DELETE", f"{image_list}/{{image}}", self.delete_image),
            ("GET", "/download/{image}", self.download),
            ("HEAD", "/download/{image}", self.download),
        )
        return [_route(method, API_PREFIX + path, handler) for method, path, handler in table]

    def application(self, middleware: Sequence[Middleware]) -> Starlette:
        """The application, with errors in their documented shape, those of `middleware` too."""
        # Middleware of a mount, unlike the application's, stands within the handlers of errors.
        router = Router(self.routes(), redirect_slashes=False)
        return Starlette(
            routes=[Mount("", router, middleware=middleware)],
            exception_handlers={
                ApiError: self._on_api_error,
                MovedError: _on_moved,
                HTTPException: _on_http_error,
            },
        )

    async def employee(self, request: Request) -> Response:
        """Who a user's token or password belongs to; ApiError 55006 for a solution's."""
        check_parameters(request.query_params, ())
        user = _user(request)
        if user.kind != "user":
            raise api_error(55006)
        return json_answer(self._documents(request).employee(user))

    async def application_context(self, request: Request) -> Response:
        """Which solution a token belongs to; ApiError 55005 for a user's."""
        check_parameters(request.query_params, ())
        user = _user(request)
        if user.kind == "user":
            raise api_error(55005)
        return json_answer(self._documents(request).application(user))

    async def list_organizations(self, request: Request) -> Response:
        check_parameters(request.query_params, PAGE_PARAMETERS)
        page = parse_page(request.query_params, self._limits)
        return json_answer(self._documents(request).organization_page(page))

    async def list_entities(self, request: Request) -> Response:
        """A page of the account's entities of a type."""
        account, type_name = _account(request), self._type(request)
        params = request.query_params
        check_parameters(params, LIST_PARAMETERS)
        page = parse_page(params, self._limits)
        wanted = parse_filter(params, RULES[type_name])
        documents = self._documents(request, parse_view(params, self._limits, page.limit))
        entities = account.entities(type_name)
        if not wanted.takes_all:  # of a large catalogue that is listed in many pages
            entities = [e for e in entities if _is_wanted(e, wanted, documents)]
        return json_answer(documents.entity_page(type_name, entities, page, _repeated(request)))

    async def get_entity(self, request: Request) -> Response:
        entity = self._entity(request)
        check_parameters(request.query_params, ENTITY_PARAMETERS)
        view = parse_view(request.query_params, self._limits, 1)
        return json_answer(self._documents(request, view).entity(entity))

    async def post_entities(self, request: Request) -> Response:
        """Creates and updates entities: those with a meta exist.

        Each element of the answer to an array is an entity or an error; with an error among them
        the status is that of the dialect, and what succeeded stays done. `expand` works on an array
        as on a list: where neither its elements nor `limit` (1000 by default) are more than 100.
        """
        type_name = self._type(request)
        check_parameters(request.query_params, ENTITY_PARAMETERS)
        data = await read_json(request, self._limits)
        size = 1
        if isinstance(data, list):
            size = max(len(data), parse_page(request.query_params, self._limits).limit)
        view = parse_view(request.query_params, self._limits, size)
        documents, editor = self._documents(request, view), self._editor(request)
        if not isinstance(data, list):
            entity = await asyncio.to_thread(editor.element, type_name, data, bulk=False)
            return json_answer(documents.entity(entity))

        def change(item: Any) -> Any:
            return documents.entity(editor.element(type_name, item, bulk=True))

        return await _answer_each(data, change, self._dialect.bulk_error_status)

    async def put_entity(self, request: Request) -> Response:
        entity = self._entity(request)
        check_parameters(request.query_params, ENTITY_PARAMETERS)
        data = await read_json(request, self._limits)
        if isinstance(data, list):
            raise api_error(2009)
        if not isinstance(data, dict):
            raise api_error(2005, detail="an object")
        changed = await asyncio.to_thread(self._editor(request).update, entity, data)
        view = parse_view(request.query_params, self._limits, 1)
        return json_answer(self._documents(request, view).entity(changed))

    async def delete_entity(self, request: Request) -> Response:
        entity = self._entity(request)
        check_parameters(request.query_params, ())
        _account(request).delete_entity(entity)
        return empty_answer()

    async def delete_entities(self, request: Request) -> Response:
        """Deletes the entities that an array names by meta; answers as `post_entities`."""
        account, type_name = _account(request), self._type(request)
        check_parameters(request.query_params, ())
        data = await read_json(request, self._limits)
        if not isinstance(data, list):
            raise api_error(2005, detail="an array")

        def delete(item: Any) -> Any:
            entity_id = self._links.entity_id(href_of(item, type_name), type_name)
            entity = account.entity(type_name, entity_id)
            if entity is None:
                raise not_found(type_name, entity_id)
            account.delete_entity(entity)
            return {"info": f"'{type_name}' {entity_id} is deleted"}

        return await _answer_each(data, delete, self._dialect.bulk_error_status)

    async def list_images(self, request: Request) -> Response:
        """expand=images changes nothing here, but the vendor's own client sends it."""
        entity = self._entity(request)
        check_parameters(request.query_params, ENTITY_PARAMETERS)
        page = parse_page(request.query_params, self._limits)
        documents = self._documents(request, parse_images_view(request.query_params, self._limits))
        return json_answer(documents.image_page(entity, page, _repeated(request)))

    async def change_images(self, request: Request) -> Response:
        """An object adds an image; an array sets the whole list. Answers the list."""
        entity = self._entity(request)
        check_parameters(request.query_params, {"fields"})
        documents = self._documents(request, parse_images_view(request.query_params, self._limits))
        data = await read_json(request, self._limits)
        changed = await asyncio.to_thread(self._change, _account(request), entity, data)
        return json_answer(documents.images(changed))

    async def delete_images(self, request: Request) -> Response:
        entity = self._entity(request)
        check_parameters(request.query_params, ())
        data = await read_json(request, self._limits)
        _account(request).delete_images(entity, self._parser(entity).image_ids(data))
        return empty_answer()

    async def delete_image(self, request: Request) -> Response:
        entity = self._entity(request)
        check_parameters(request.query_params, ())
        _account(request).delete_images(entity, [request.path_params["image"]])
        return empty_answer()

    async def download(self, request: Request) -> Response:
        """302 to a temporary URL of the storage."""
        if request.method == "HEAD" and not self._dialect.head:
            raise api_error(1039)
        check_parameters(request.query_params, {"miniature"})
        account, image_id = _account(request), request.path_params["image"]
        if account.image(image_id) is None:
            raise not_found("image", image_id)
        seconds = self._expiration(request.headers.get(EXPIRATION_HEADER))
        if request.query_params.get("miniature") == "true":
            location = self._links.miniature(account, image_id)
        else:
            location = self._links.temporary(account, image_id, seconds)
        return empty_answer(302, {"Location": location})

    @property
    def _dialect(self) -> Dialect:
        return self._emulator.dialect

    def _parser(self, entity: EmulatedEntity) -> ElementParser:
        return ElementParser(self._limits, self._links, self._dialect, entity)

    def _editor(self, request: Request) -> EntityEditor:
        return EntityEditor(_account(request), self._limits, self._links, self._dialect)

    def _change(
        self, account: EmulatedAccount, entity: EmulatedEntity, data: Any
    ) -> EmulatedEntity:
        parser = self._parser(entity)
        if not isinstance(data, list):
            return account.add_image(entity, parser.upload(data))
        try:
            return account.set_images(entity, parser.elements(data))
        except ApiError:
            if self._dialect.refused_array == "drops":
                account.drop_images(entity)
            raise

    def _expiration(self, text: str | None) -> float:
        if text is None:
            return self._limits.download_seconds
        if not _SECONDS.fullmatch(text) or int(text) < 1:
            raise api_error(1040, parameter=EXPIRATION_HEADER, detail=text)
        return min(float(text), self._limits.max_download_seconds)

    def _documents(self, request: Request, view: View = View()) -> Documents:  # noqa: B008 (frozen)
        return Documents(self._links, _account(request), view, self._dialect)

    def _type(self, request: Request) -> str:
        type_name: str = request.path_params["type"]
        if type_name == "organization":
            raise api_error(1039)
        if type_name not in self._limits.max_images:
            raise api_error(1005, type=type_name)
        return type_name

    def _entity(self, request: Request) -> EmulatedEntity:
        account, type_name = _account(request), self._type(request)
        entity_id: str = request.path_params["id"]
        entity = account.entity(type_name, entity_id)
        if entity is not None:
            return entity
        moved = account.entity_by_ui_uuid(type_name, entity_id)
        if moved is None:
            raise not_found(type_name, entity_id)
        path = request.url.path.removeprefix(API_PREFIX).replace(entity_id, moved.id, 1)
        query = f"?{request.url.query}" if request.url.query else ""
        raise MovedError(f"{self._links.api_url}{path}{query}")

    async def _on_api_error(self, _: Request, error: Exception) -> Response:
        if not isinstance(error, ApiError):
            raise error
        status = self._dialect.image_error_status
        if status != "mixed" and error.code in IMAGE_CODES:
            error.status = status
        return error_answer(error)


def _route(method: str, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    route = Route(path, handler, methods=[method])
    route.methods = {method}  # Starlette adds HEAD to every GET; the API documents it nowhere
    return route


async def _answer_each(data: list[Any], work: Callable[[Any], Any], error_status: int) -> Response:
    """The results of `work`, or errors, in the order of the elements."""
    answers, status = [], 200
    for item in data:
        try:
            answers.append(await asyncio.to_thread(work, item))
        except ApiError as error:
            answers.append(error.body())
            status = error_status
    return json_answer(answers, status)


def _is_wanted(entity: EmulatedEntity, wanted: Filter, documents: Documents) -> bool:
    if wanted.is_empty:  # no documents are made only to look at them
        return not entity.archived
    return wanted.accepts(documents.fields(entity))


def _repeated(request: Request) -> dict[str, str]:
    """Parameters that the links to other pages repeat."""
    names = ("filter", "expand", "fields")
    return {name: request.query_params[name] for name in names if name in request.query_params}


def _user(request: Request) -> EmulatedUser:
    user: EmulatedUser = request.user.emulated
    return user


def _account(request: Request) -> EmulatedAccount:
    return _user(request).account


async def _on_moved(_: Request, error: Exception) -> Response:
    if not isinstance(error, MovedError):
        raise error
    return empty_answer(308, {"Location": error.location})


async def _on_http_error(_: Request, error: Exception) -> Response:
    code = 1039 if isinstance(error, HTTPException) and error.status_code == 405 else 1002
    return error_answer(api_error(code))
