"""Endpoints of the API (sections Product, Images, Links to files)."""

import asyncio
import re
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imgsync.adapters.emulator.accounts import EmulatedAccount, EmulatedEntity
from imgsync.adapters.emulator.answers import empty_answer, error_answer, json_answer
from imgsync.adapters.emulator.bodies import read_json
from imgsync.adapters.emulator.documents import Documents
from imgsync.adapters.emulator.errors import ApiError, MovedError, api_error, not_found
from imgsync.adapters.emulator.limits import EmulatorLimits
from imgsync.adapters.emulator.links import API_PREFIX, Links
from imgsync.adapters.emulator.queries import (
    View,
    parse_filter,
    parse_images_view,
    parse_page,
    parse_view,
)
from imgsync.adapters.emulator.uploads import ElementParser, href_of

_EXPIRATION_HEADER = "X-Lognex-Download-Expiration-Seconds"
_SECONDS = re.compile(r"[0-9]{1,9}")


class Api:
    """Handlers; ``request.state.user`` is the authenticated user."""

    def __init__(self, limits: EmulatorLimits, links: Links) -> None:
        self._limits = limits
        self._links = links

    def routes(self) -> list[Route]:
        """Every route, for the application and for the names in the counters."""
        image_list = "/entity/{type}/{id}/images"
        table = (
            ("GET", "/entity/{type}", self.list_entities),
            ("POST", "/entity/{type}", self.update_entities),
            ("GET", "/entity/{type}/{id}", self.get_entity),
            ("GET", image_list, self.list_images),
            ("POST", image_list, self.change_images),
            ("POST", f"{image_list}/delete", self.delete_images),
            ("DELETE", f"{image_list}/{{image}}", self.delete_image),
            ("GET", "/download/{image}", self.download),
        )
        return [
            Route(API_PREFIX + path, handler, methods=[method]) for method, path, handler in table
        ]

    def application(self) -> Starlette:
        """The application, with errors in their documented shape."""
        app = Starlette(
            routes=self.routes(),
            exception_handlers={
                ApiError: _on_api_error,
                MovedError: _on_moved,
                HTTPException: _on_http_error,
            },
        )
        app.router.redirect_slashes = False
        return app

    async def list_entities(self, request: Request) -> Response:
        """A page of the account's entities of a type."""
        account, type_name = _account(request), self._type(request)
        page = parse_page(request.query_params, self._limits)
        view = parse_view(request.query_params, self._limits, page.limit)
        wanted = parse_filter(request.query_params)
        entities = [entity for entity in account.entities(type_name) if wanted.accepts(entity)]
        documents = Documents(self._links, account, view)
        return json_answer(documents.entity_page(type_name, entities, page, _repeated(request)))

    async def get_entity(self, request: Request) -> Response:
        entity = self._entity(request)
        view = parse_view(request.query_params, self._limits, 1)
        return json_answer(Documents(self._links, _account(request), view).entity(entity))

    async def update_entities(self, request: Request) -> Response:
        """Sets image lists in bulk; each element of the answer is an entity or an error."""
        account, type_name = _account(request), self._type(request)
        data = await read_json(request, self._limits)
        items = data if isinstance(data, list) else [data]
        view = parse_view(request.query_params, self._limits, len(items))
        documents = Documents(self._links, account, view)
        answers = []
        for item in items:
            try:
                entity = await asyncio.to_thread(self._update, account, type_name, item)
                answers.append(documents.entity(entity))
            except ApiError as error:
                if not isinstance(data, list):
                    raise
                answers.append(error.body())
        return json_answer(answers if isinstance(data, list) else answers[0])

    async def list_images(self, request: Request) -> Response:
        entity = self._entity(request)
        page = parse_page(request.query_params, self._limits)
        return json_answer(self._documents(request).image_page(entity, page, _repeated(request)))

    async def change_images(self, request: Request) -> Response:
        """An object adds an image; an array sets the whole list. Answers the list."""
        entity = self._entity(request)
        documents = self._documents(request)
        data = await read_json(request, self._limits)
        changed = await asyncio.to_thread(self._change, _account(request), entity, data)
        return json_answer(documents.images(changed))

    async def delete_images(self, request: Request) -> Response:
        entity = self._entity(request)
        data = await read_json(request, self._limits)
        ids = ElementParser(self._limits, self._links, entity).image_ids(data)
        _account(request).delete_images(entity, ids)
        return empty_answer()

    async def delete_image(self, request: Request) -> Response:
        entity = self._entity(request)
        _account(request).delete_images(entity, [request.path_params["image"]])
        return empty_answer()

    async def download(self, request: Request) -> Response:
        """302 to a temporary URL of the storage."""
        account, image_id = _account(request), request.path_params["image"]
        if account.image(image_id) is None:
            raise not_found("image", image_id)
        seconds = self._expiration(request.headers.get(_EXPIRATION_HEADER))
        if request.query_params.get("miniature") == "true":
            location = self._links.miniature(account, image_id)
        else:
            location = self._links.temporary(account, image_id, seconds)
        return empty_answer(302, {"Location": location})

    def _change(
        self, account: EmulatedAccount, entity: EmulatedEntity, data: Any
    ) -> EmulatedEntity:
        parser = ElementParser(self._limits, self._links, entity)
        if isinstance(data, list):
            return account.set_images(entity, parser.elements(data))
        return account.add_image(entity, parser.upload(data))

    def _update(self, account: EmulatedAccount, type_name: str, item: Any) -> EmulatedEntity:
        if not isinstance(item, dict) or "meta" not in item:
            raise api_error(1012, parameter="meta")
        entity_id = self._links.entity_id(href_of(item), type_name)
        entity = account.entity(type_name, entity_id)
        if entity is None:
            raise not_found(type_name, entity_id)
        if "images" in item:
            parser = ElementParser(self._limits, self._links, entity)
            return account.set_images(entity, parser.elements(item["images"]))
        return entity

    def _expiration(self, text: str | None) -> float:
        if text is None:
            return self._limits.download_seconds
        if not _SECONDS.fullmatch(text) or int(text) < 1:
            raise api_error(1040, parameter=_EXPIRATION_HEADER, detail=text)
        return min(float(text), self._limits.max_download_seconds)

    def _documents(self, request: Request) -> Documents:
        view: View = parse_images_view(request.query_params, self._limits)
        return Documents(self._links, _account(request), view)

    def _type(self, request: Request) -> str:
        type_name: str = request.path_params["type"]
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


def _repeated(request: Request) -> dict[str, str]:
    """Parameters that the links to other pages repeat."""
    names = ("filter", "expand", "fields")
    return {name: request.query_params[name] for name in names if name in request.query_params}


def _account(request: Request) -> EmulatedAccount:
    account: EmulatedAccount = request.state.user.account
    return account


async def _on_api_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error_answer(error)


async def _on_moved(_: Request, error: Exception) -> Response:
    if not isinstance(error, MovedError):
        raise error
    return empty_answer(308, {"Location": error.location})


async def _on_http_error(_: Request, error: Exception) -> Response:
    code = 1039 if isinstance(error, HTTPException) and error.status_code == 405 else 1002
    return error_answer(api_error(code))
