"""The API of one account, and one client for each account and credentials."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx

from imgsync.adapters.moysklad import owner
from imgsync.adapters.moysklad.addresses import DownloadPolicy, is_loopback, origin
from imgsync.adapters.moysklad.answers import UNKNOWN_OWNER, AnswerTooLongError
from imgsync.adapters.moysklad.bulk import JointPermit, Result, SomeLostError, results_of
from imgsync.adapters.moysklad.downloads import Downloader
from imgsync.adapters.moysklad.limits import EXPANDED_PAGE_SIZE, PLAIN_PAGE_SIZE
from imgsync.adapters.moysklad.network import only_clean, ssl_context, storage_transport
from imgsync.adapters.moysklad.owner import OwnerCheck
from imgsync.adapters.moysklad.pace import (
    Pacer,
    ProcessPaces,
    learnt_weight,
    rate_in_use,
    request_weight,
)
from imgsync.adapters.moysklad.requests import (
    StreamedBody,
    api_limits,
    bulk_array,
    bulk_size,
    ids_filters,
    image_array,
    keep_meta,
    moscow_text,
    small_body,
    values_filters,
    webhook_body,
    webhook_meta,
)
from imgsync.adapters.moysklad.rows import (
    EntityModel,
    Images,
    Page,
    RoomAhead,
    WebhookModel,
    name_of,
    parse,
    rows_of,
)
from imgsync.adapters.moysklad.shown import Shown
from imgsync.adapters.moysklad.transport import (
    EXCHANGE_SECONDS,
    ApiTransport,
    WebhookPrefixes,
)
from imgsync.domain.errors import (
    ApiError,
    ImageRejectedError,
    ImgsyncError,
    NotFoundError,
    PermissionDeniedError,
    RequestTooLargeError,
)
from imgsync.domain.model import (
    Abilities,
    Account,
    Element,
    Entity,
    EntityPage,
    EntityType,
    Identity,
    MatchField,
    RemoteImage,
    TokenKind,
)
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.moysklad import (
    ApiLimits,
    ImageSet,
    RateInUse,
    ReadContent,
    WritePermit,
)
from imgsync.domain.ports.pace import PaceStore
from imgsync.domain.ports.runs import Meter
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.webhooks import Webhook

_log = logging.getLogger(__name__)
_API_TIMEOUT = httpx.Timeout(EXCHANGE_SECONDS, connect=15.0)
# A storage that says nothing for so long is asked anew while the download's time lasts.
_STORAGE_TIMEOUT = httpx.Timeout(20.0, connect=15.0)
_PROXY_ERRORS = (ImportError, ValueError, httpx.InvalidURL)
_ARCHIVED = frozenset({"product", "bundle", "variant", "service"})
"""Types that have archived entities, and tell `updated`; of the others neither can be asked for."""
_WEBHOOKS = "entity/webhook"
_Key = tuple[str, TokenKind, str, str | None]


class MoySkladClient:
    """Implements the port `MoySkladPort` over HTTP."""

    def __init__(
        self,
        transport: ApiTransport,
        downloader: Downloader,
        owner: OwnerCheck,
        room: RoomAhead | None = None,
    ) -> None:
        self._room = room or RoomAhead()
        self._transport = transport
        self._downloader = downloader
        self._owner = owner
        self._gives_permanent_links = True
        self._limits = api_limits(transport.api_url)
        self._shown = Shown()

    @property
    def limits(self) -> ApiLimits:
        return self._limits

    @property
    def shown(self) -> Abilities:
        return self._shown.abilities.with_shown(Abilities(head=self._downloader.head))

    async def list_entities(
        self,
        entity_type: EntityType,
        *,
        with_images: bool,
        permanent_links: bool = False,
        updated_since: datetime | None = None,
        having: tuple[MatchField, Sequence[str]] | None = None,
        ids: Collection[str] | None = None,
    ) -> AsyncIterator[EntityPage]:
        if updated_since is not None and entity_type.name not in _ARCHIVED:
            raise ApiError(f"of entities '{entity_type.name}' the API does not tell what changed")
        seen: set[str] = set()
        of_values = values_filters(*having) if having else [""]
        of_ids = [""] if ids is None else ids_filters(ids)
        for values, some in product(of_values, of_ids):
            conditions = [values, some]
            if entity_type.name in _ARCHIVED:
                conditions.insert(0, "archived=true;archived=false")
            if updated_since is not None:
                conditions.append(f"updated>={moscow_text(updated_since)}")
            chosen = ";".join(filter(None, conditions))
            async for page in self._pages(entity_type, with_images, permanent_links, chosen):
                if having:  # one may have several of the values, as a store may compare them
                    page.entities[:] = [e for e in page.entities if e.id not in seen]
                    seen |= {e.id for e in page.entities}
                if ids is not None:
                    page.entities[:] = [e for e in page.entities if e.id in ids]
                yield page

    async def _pages(
        self, entity_type: EntityType, with_images: bool, permanent_links: bool, chosen: str
    ) -> AsyncIterator[EntityPage]:
        limit = EXPANDED_PAGE_SIZE if with_images else PLAIN_PAGE_SIZE
        params: dict[str, str | int] = {"expand": "images"} if with_images else {}
        if chosen:
            params["filter"] = chosen
        if with_images and permanent_links and self._gives_permanent_links:
            params["fields"] = "downloadPermanentHref"
        path = f"entity/{entity_type.name}"

        async def page(offset: int) -> Any:
            nonlocal limit
            shown = params | {"limit": limit, "offset": offset}
            try:
                return await self._transport.json("GET", path, params=shown, is_page=True)
            except AnswerTooLongError:
                if limit <= EXPANDED_PAGE_SIZE:
                    raise
            except ApiError:
                if "fields" not in shown:
                    raise
                # Documented is that a plan without such links leaves them out; who knows.
                params.pop("fields", None)
                found = await page(offset)
                self._gives_permanent_links = False
                self._shown.saw(Abilities(permanent_links=False))
                return found
            limit = EXPANDED_PAGE_SIZE  # entities with very long texts
            return await page(offset)

        before = 0
        # Of plain ones the limit may become less; they are ten times fewer pages, too.
        room = self._room if with_images else None
        what = f"entities '{entity_type.name}'"
        async for rows, total in rows_of(what, limit, page, room):
            if "fields" in params:
                self._shown.saw_links(rows, self._downloader.named)
            found = EntityPage([], total=total, answered=self._transport.answered)
            for number, row in enumerate(rows, before + 1):
                name = name_of(entity_type.name, row, number)
                try:
                    entity = await self._entity(entity_type, row, with_images)
                    if entity_type.matcher is not None:
                        entity = replace(entity, fields=row)
                    found.entities.append(entity)
                except (ApiError, NotFoundError, PermissionDeniedError) as error:
                    found.unreadable.append(f"{name}: {error}")
            before += len(rows)
            yield found

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        try:
            images = await self._images(entity_type, entity_id)
        except NotFoundError:
            await self._owner.suspect(self._get)
            raise
        whose, what = self._transport.whose, f"{entity_type.name} {entity_id}"
        if images.unreadable and not images.images:
            raise ApiError(f"{whose}no image of {what} can be read: {images.unreadable[0]}")
        for text in images.unreadable:
            _log.warning("%s%s: an image is left out: %s", whose, what, text)
        return images.images

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        path = _images_path(entity_type, entity_id)
        body = image_array(elements, read)
        try:
            answer = await self._write(entity_type, entity_id, path, body, permit)
        except ImageRejectedError as error:
            await self._shown.refused(elements, read, error)
            raise
        rows = answer if isinstance(answer, list) else []
        images = Images.of(rows)
        if images.unreadable or len(rows) != len(elements):
            raise ApiError(
                f"unexpected answer of the API: {len(elements)} images were set, "
                f"{len(images.images)} came back"
            )
        self._shown.set_as_sent(elements, images.images)
        return images.images

    async def set_many(
        self, entity_type: EntityType, sets: Sequence[ImageSet]
    ) -> list[list[RemoteImage] | ImgsyncError]:
        listing = f"{self._transport.api_url}/entity/{entity_type.name}"
        room = self._limits.bulk
        if (
            len(sets) > room.max_entities
            or bulk_size(listing, entity_type.name, sets) > room.max_bytes
        ):
            raise RequestTooLargeError(f"{len(sets)} entities are more than one request holds")
        found = dict[int, Result]()
        left = dict(enumerate(sets))
        while left:
            try:
                results = await self._set_all(entity_type, listing, left)
            except SomeLostError as error:  # and nothing was sent, or nothing more
                found |= error.lost
                left = {key: one for key, one in left.items() if key not in error.lost}
                continue
            found |= results
            break
        for key, one in left.items():
            result = found[key]
            if isinstance(result, ImgsyncError):
                await self._shown.refused(one.elements, one.read, result)
            else:
                self._shown.set_as_sent(one.elements, result)
        return [found[key] for key in range(len(sets))]

    async def _set_all(
        self, entity_type: EntityType, listing: str, sets: dict[int, ImageSet]
    ) -> dict[int, Result]:
        """The results of one request, by the keys of its sets."""
        first = next(iter(sets.values()))
        try:
            await self._owner.confirm(self._get, _entity_path(entity_type, first.entity_id))
        except NotFoundError:  # which is a matter of that set alone
            await self._owner.confirm(self._get)
        answer = await self._transport.json(
            "POST",
            f"entity/{entity_type.name}",
            params={"expand": "images", "limit": EXPANDED_PAGE_SIZE},
            body=bulk_array(listing, entity_type.name, list(sets.values())),
            permit=JointPermit({key: one.permit for key, one in sets.items()}),
            elements=len(sets),
        )
        for one in sets.values():
            self._transport.forget_failures(_entity_path(entity_type, one.entity_id))
        results = results_of(
            answer, list(sets.values()), self._transport.element_error, self._owner.saw
        )
        return dict(zip(sets, results, strict=True))

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        path = f"{_images_path(entity_type, entity_id)}/delete"
        try:
            body = small_body([keep_meta(href) for href in hrefs])
            await self._write(entity_type, entity_id, path, body, permit)
        except NotFoundError:
            # An earlier try whose answer was lost, or someone else, has deleted some of them.
            present = {image.href for image in await self.list_images(entity_type, entity_id)}
            left = [keep_meta(href) for href in hrefs if href in present]
            if left:
                await self._write(entity_type, entity_id, path, small_body(left), permit)

    async def create_entity(self, entity_type: EntityType, name: str, external_code: str) -> str:
        await self._owner.confirm(self._get)
        body = small_body({"name": name, "externalCode": external_code})
        answer = await self._transport.json("POST", f"entity/{entity_type.name}", body=body)
        model = parse(EntityModel, answer)
        self._owner.saw(model.accountId)
        return model.id

    async def delete_entity(self, entity_type: EntityType, entity_id: str) -> None:
        await self._owner.confirm(self._get)
        path = _entity_path(entity_type, entity_id)
        with suppress(NotFoundError):
            await self._transport.json("DELETE", path, may_be_empty=True)

    async def webhooks(self) -> list[Webhook]:
        async def page(offset: int) -> Any:
            shown: dict[str, str | int] = {"limit": PLAIN_PAGE_SIZE, "offset": offset}
            return await self._transport.json("GET", _WEBHOOKS, params=shown, is_page=True)

        self._owner.check()
        found = []
        async for rows, _ in rows_of("webhooks", PLAIN_PAGE_SIZE, page):
            for row in rows:
                model = parse(WebhookModel, row)
                self._owner.saw(model.accountId)
                found.append(model.webhook())
        # Who looks anew is about to act anew, maybe with rights that were given meanwhile.
        self._transport.forget_failures(_WEBHOOKS)
        return found

    async def save_webhooks(self, webhooks: Sequence[Webhook]) -> list[ImgsyncError | None]:
        await self._owner.confirm(self._get)
        listing = f"{self._transport.api_url}/{_WEBHOOKS}"
        answer = await self._transport.json(
            "POST",
            _WEBHOOKS,
            body=small_body([webhook_body(listing, one) for one in webhooks]),
            elements=len(webhooks),
        )
        return self._each(answer, len(webhooks))

    async def delete_webhooks(self, webhook_ids: Sequence[str]) -> None:
        await self._owner.confirm(self._get)
        listing = f"{self._transport.api_url}/{_WEBHOOKS}"
        answer = await self._transport.json(
            "POST",
            f"{_WEBHOOKS}/delete",
            body=small_body([webhook_meta(listing, one) for one in webhook_ids]),
            elements=len(webhook_ids),
        )
        for error in self._each(answer, len(webhook_ids)):
            if error is not None and not isinstance(error, NotFoundError):
                raise error

    def _each(self, answer: Any, count: int) -> list[ImgsyncError | None]:
        """What became of each webhook that was sent."""
        if not isinstance(answer, list) or len(answer) != count:
            came = len(answer) if isinstance(answer, list) else "no list"
            raise ApiError(
                f"unexpected answer of the API: {count} webhooks were sent, {came} came back"
            )
        return [
            None
            if isinstance(element, dict) and "errors" not in element
            else self._transport.element_error(element)
            for element in answer
        ]

    def trust(self, hosts: Collection[str]) -> None:
        self._downloader.trust(hosts)

    async def content_length(self, url: str) -> int | None:
        self._owner.check()
        return await self._downloader.content_length(url)

    async def storage_of(self, url: str) -> str:
        self._owner.check()
        return await self._downloader.storage_of(url)

    async def download(
        self,
        url: str,
        create: Callable[[], Awaitable[TempFile]],
        max_bytes: int,
        size: int | None = None,
        *,
        is_permanent: bool = False,
    ) -> TempFile:
        self._owner.check()
        return await self._downloader.download(
            url, create, max_bytes, size, is_permanent=is_permanent
        )

    async def _get(self, path: str) -> Any:
        self._owner.check()
        return await self._transport.json("GET", path)

    async def _write(
        self,
        entity_type: EntityType,
        entity_id: str,
        path: str,
        body: StreamedBody,
        permit: WritePermit,
    ) -> Any:
        """A request that changes an entity; only with credentials that are the account's own."""
        entity = _entity_path(entity_type, entity_id)
        await self._owner.confirm(self._get, entity)
        answer = await self._transport.json(
            "POST", path, body=body, permit=permit, may_be_empty=path.endswith("/delete")
        )
        self._transport.forget_failures(entity)
        return answer

    async def _entity(self, entity_type: EntityType, row: Any, with_images: bool) -> Entity:
        model = parse(EntityModel, row)
        self._owner.saw(model.accountId)
        if not with_images:
            return model.entity(Images([], []))
        images = model.images
        if images is None or (images.rows is None and images.size is None):
            return model.entity(Images([], [], known=False))
        rows = images.rows or []
        if (images.size or 0) > len(rows):
            return model.entity(await self._images(entity_type, model.id))
        return model.entity(Images.of(rows))

    async def _images(self, entity_type: EntityType, entity_id: str) -> Images:
        page = parse(Page, await self._get(_images_path(entity_type, entity_id)))
        if page.rows is None and page.size != 0:
            raise ApiError("unexpected answer of the API: the list of images has no rows")
        rows = page.rows or []
        if page.size is not None and len(rows) < page.size:
            # An empty one would have the child's images cleared.
            raise ApiError(
                f"the list of images has {len(rows)} rows although it says to have {page.size}; "
                "it is not trusted"
            )
        return Images.of(rows)


def _entity_path(entity_type: EntityType, entity_id: str) -> str:
    return f"entity/{entity_type.name}/{quote(entity_id, safe='')}"


def _images_path(entity_type: EntityType, entity_id: str) -> str:
    return f"{_entity_path(entity_type, entity_id)}/images"


class HttpMoySkladFactory:
    """Implements the port `MoySkladFactory`. Accounts share no connection and no cookie.

    `paces`: kept where the other processes find them; without it this one has its own.
    `webhook_prefixes`: our writes fire no webhook whose address begins with one of these. `meter`:
    counts the requests of the accounts.
    """

    def __init__(
        self,
        api_url: str,
        download_hosts: Iterable[str],
        clock: Clock,
        paces: PaceStore | None = None,
        webhook_prefixes: WebhookPrefixes | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter
        self._policy = DownloadPolicy.create(api_url.rstrip("/"), download_hosts)
        self._clock = clock
        self._paces = paces
        self._webhook_prefixes = webhook_prefixes
        self._clients: dict[_Key, MoySkladClient] = {}
        self._pacers: dict[tuple[str, str | None], Pacer] = {}
        self._open: list[httpx.AsyncClient] = []
        self._room = RoomAhead()

    def for_account(self, account: Account) -> MoySkladClient:
        key = (account.id, account.token_kind, account.secret, account.login)
        if key not in self._clients:
            self._clients[key] = self._build(account)
        return self._clients[key]

    async def identify(self, secret: str, login: str | None = None) -> Identity:
        kind = TokenKind.USER if login is None else TokenKind.PASSWORD
        try:
            unknown = Account("unknown", UNKNOWN_OWNER, kind, secret, login)
        except ValueError as error:
            raise ApiError(str(error)) from None
        async with self._client() as api:
            transport = ApiTransport(unknown, self._policy, api, self._pacer(unknown))

            async def get(path: str) -> Any:
                return await transport.json("GET", path)

            return await owner.identify(get, is_password=login is not None)

    async def close(self) -> None:
        while self._open:
            await self._open.pop().aclose()
        self._clients.clear()
        for pacer in self._pacers.values():
            await pacer.close()

    @property
    def has_spare(self) -> bool:
        return all(pacer.has_spare for pacer in self._pacers.values())

    async def weight(self, account: Account) -> int | None:
        store = self._paces or ProcessPaces()
        return await learnt_weight(store, self._credential(account))

    async def rate(self, account: Account) -> RateInUse | None:
        store = self._paces or ProcessPaces()
        return await rate_in_use(store, self._credential(account))

    def _build(self, account: Account) -> MoySkladClient:
        api, storage = self._client(), self._storage()
        self._open += [api, storage]
        transport = ApiTransport(
            account,
            self._policy,
            api,
            self._pacer(account),
            webhook_prefixes=self._webhook_prefixes,
            meter=self._meter,
        )
        downloader = Downloader(transport, self._policy, storage)
        return MoySkladClient(transport, downloader, OwnerCheck(account), self._room)

    def _pacer(self, account: Account) -> Pacer:
        """The pace belongs to the credentials: under a new kind or name it goes on."""

        def weight() -> int:
            return request_weight(account.token_kind, self._clock.now())

        key = (account.secret, account.login)
        if key not in self._pacers:
            credential = self._credential(account)
            self._pacers[key] = Pacer(
                weight, store=self._paces, credential=credential, name=account.name
            )
        pacer = self._pacers[key]
        pacer.weight = weight
        return pacer

    def _credential(self, account: Account) -> str:
        """What the API knows a user by, at this API."""
        return f"{self._policy.api_url}\n{account.login or ''}\n{account.secret}"

    @property
    def _is_local(self) -> bool:
        _, host, _ = origin(self._policy.api_url)
        return is_loopback(host)

    def _client(self) -> httpx.AsyncClient:
        """A client that uses the environment's proxies, but none for an API on loopback."""
        try:
            client = httpx.AsyncClient(
                verify=ssl_context(), timeout=_API_TIMEOUT, trust_env=not self._is_local
            )
        except _PROXY_ERRORS as error:
            raise _bad_proxy(error) from error
        return only_clean(client)

    def _storage(self) -> httpx.AsyncClient:
        try:
            transport = storage_transport(self._policy.permits, use_proxies=not self._is_local)
        except _PROXY_ERRORS as error:
            raise _bad_proxy(error) from error
        return httpx.AsyncClient(
            verify=ssl_context(), timeout=_STORAGE_TIMEOUT, transport=transport, trust_env=False
        )


def _bad_proxy(error: Exception) -> ApiError:
    return ApiError(f"the proxy settings of the environment cannot be used: {error}")
