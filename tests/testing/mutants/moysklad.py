"""Accounts of MoySklad in memory that break one sentence of their port each."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from imgsync.domain.errors import ImageError, ImgsyncError, NotFoundError, UnavailableError
from imgsync.domain.model import (
    Abilities,
    Element,
    EntityPage,
    EntityType,
    RemoteImage,
    Upload,
)
from imgsync.domain.ports.moysklad import ImageSet, WritePermit
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.webhooks import Webhook
from imgsync.testing import UNLIMITED, MemoryMoySklad
from tests.testing.mutants.registry import mutant

Results = list[list[RemoteImage] | ImgsyncError]


@mutant("test_every_entity_comes_once_in_pages")
class LastPageTwice(MemoryMoySklad):
    async def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        page = None
        async for page in super().list_entities(entity_type, with_images=with_images, **options):
            yield page
        if page:
            yield page


@mutant("test_images_come_only_where_they_are_asked_for")
class ImagesUnasked(MemoryMoySklad):
    def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        return super().list_entities(entity_type, with_images=True, **options)


@mutant("test_permanent_links_come_where_they_are_asked_for")
class LinksUnasked(MemoryMoySklad):
    def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        options["permanent_links"] = True
        return super().list_entities(entity_type, with_images=with_images, **options)


@mutant("test_permanent_links_come_where_they_are_asked_for")
class HostUntold(MemoryMoySklad):
    async def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        async for page in super().list_entities(entity_type, with_images=with_images, **options):
            self.shown = Abilities()
            yield page


@mutant("test_permanent_links_come_where_they_are_asked_for")
class LinksOfNoUse(MemoryMoySklad):
    def trust(self, hosts: Collection[str]) -> None:
        """Forgotten at once."""


@mutant("test_a_foreign_host_is_forbidden")
class TrustsAllOnceItTrustsOne(MemoryMoySklad):
    def trust(self, hosts: Collection[str]) -> None:
        super().trust({*hosts, "evil.example"})


@mutant("test_a_foreign_host_is_forbidden")
class TrustsEachPort(MemoryMoySklad):
    def trust(self, hosts: Collection[str]) -> None:
        super().trust({*hosts, *(f"{host}:22" for host in hosts)})


@mutant("test_images_are_listed_in_order")
class LastImageFirst(MemoryMoySklad):
    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        return (await super().list_images(entity_type, entity_id))[::-1]


@mutant("test_an_unknown_entity_is_not_found")
class NoImagesOfUnknown(MemoryMoySklad):
    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        try:
            return await super().list_images(entity_type, entity_id)
        except NotFoundError:
            return []


@mutant("test_set_images_sets_the_whole_list_in_order")
class AddsToTheList(MemoryMoySklad):
    async def set_images(
        self, entity_type: EntityType, entity_id: str, *rest: Any
    ) -> list[RemoteImage]:
        before = list(self._entity(entity_type.name, entity_id).images)
        images = await super().set_images(entity_type, entity_id, *rest)
        kept = [image for image in before if image not in images]
        self._replace(entity_type, self._entity(entity_type.name, entity_id), [*kept, *images])
        return images


@mutant("test_without_a_permit_nothing_is_written")
class AsksAfterwards(MemoryMoySklad):
    async def _permitted(self, permit: WritePermit, write: Callable[[], Awaitable[Any]]) -> Any:
        result = await super()._permitted(UNLIMITED, write)
        await super()._permitted(permit, permit.confirm)
        return result


@mutant("test_each_write_has_its_permit_confirmed")
class NeverAsks(MemoryMoySklad):
    async def _permitted(self, permit: WritePermit, write: Callable[[], Awaitable[Any]]) -> Any:
        return await super()._permitted(UNLIMITED, write)


@mutant("test_a_write_that_outlasts_its_permit_is_broken_off")
class WritesOn(MemoryMoySklad):
    async def _permitted(self, permit: WritePermit, write: Callable[[], Awaitable[Any]]) -> Any:
        await permit.confirm()
        return await super()._permitted(UNLIMITED, write)


@mutant("test_of_an_image_that_stands_twice_the_first_is_deleted")
class DeletesTheLast(MemoryMoySklad):
    async def delete_images(
        self, entity_type: EntityType, entity_id: str, hrefs: Sequence[str], permit: WritePermit
    ) -> None:
        for turn in range(2):
            entity = self._entity(entity_type.name, entity_id)
            self._replace(entity_type, entity, entity.images[::-1])
            if turn == 0:
                await super().delete_images(entity_type, entity_id, hrefs, permit)


@mutant("test_images_that_are_gone_already_do_not_keep_the_others")
class GoneIsAnError(MemoryMoySklad):
    async def delete_images(
        self, entity_type: EntityType, entity_id: str, hrefs: Sequence[str], permit: WritePermit
    ) -> None:
        known = {image.href for image in self._entity(entity_type.name, entity_id).images}
        if not known.issuperset(hrefs):
            raise NotFoundError("1021")
        await super().delete_images(entity_type, entity_id, hrefs, permit)


class _Downloads(MemoryMoySklad):
    """Downloads otherwise."""

    async def download(
        self,
        url: str,
        create: Callable[[], Awaitable[TempFile]],
        max_bytes: int,
        size: int | None = None,
        *,
        is_permanent: bool = False,
    ) -> TempFile:
        return await self.wrong(url, create, max_bytes, size)

    async def wrong(self, *call: Any) -> TempFile:
        raise NotImplementedError


@mutant("test_a_file_of_another_size_than_known_is_no_download")
class AnySizeWillDo(_Downloads):
    async def wrong(self, url: str, create: Any, max_bytes: int, size: int | None) -> TempFile:
        return await MemoryMoySklad.download(self, url, create, max_bytes)


@mutant("test_a_download_over_the_limit_is_refused")
class NoLimit(_Downloads):
    async def wrong(self, url: str, create: Any, max_bytes: int, size: int | None) -> TempFile:
        return await MemoryMoySklad.download(self, url, create, 10**9, size)


@mutant("test_a_file_of_another_size_than_known_is_no_download")
class LeavesTheFailedFile(_Downloads):
    async def wrong(self, url: str, create: Any, max_bytes: int, size: int | None) -> TempFile:
        try:
            return await MemoryMoySklad.download(self, url, create, max_bytes, size)
        except UnavailableError:
            await create()
            raise


@mutant("test_an_image_that_is_gone_has_no_length_and_no_content")
class EmptyWhereGone(_Downloads):
    async def wrong(self, url: str, create: Any, max_bytes: int, size: int | None) -> TempFile:
        try:
            return await MemoryMoySklad.download(self, url, create, max_bytes, size)
        except ImageError as error:
            if str(error) != "404":
                raise
            file: TempFile = await create()
            await file.close()
            return file


@mutant("test_equal_name_and_content_are_one_image_and_others_are_not")
class EveryImageIsNew(MemoryMoySklad):
    number = 0

    def _store(
        self, entity_type: str, entity_id: str, filename: str, content: bytes
    ) -> RemoteImage:
        self.number += 1
        stored = super()._store(entity_type, entity_id, filename, content)
        return replace(stored, href=f"{stored.href}{self.number}")


class _ManyMutant(MemoryMoySklad):
    """Does something else with many lists than with one; the results come through `many`."""

    async def set_many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        return await self.many(entity_type, sets)

    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        return await super().set_many(entity_type, sets)


@mutant("test_many_lists_are_set_in_order")
class AnswersBackwards(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        return (await super().many(entity_type, sets))[::-1]


@mutant("test_many_lists_are_set_in_order")
class ForgetsWhatManyKeep(MemoryMoySklad):
    def _bulk_elements(self, elements: Sequence[Element]) -> Sequence[Element]:
        return [element for element in elements if isinstance(element, Upload)]


@mutant("test_an_empty_list_of_many_removes_all")
class LeavesOutEmptyLists(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        await super().many(entity_type, [one for one in sets if one.elements])
        return [[] for _ in sets]


@mutant("test_what_is_refused_costs_only_itself")
class OneRefusalIsAll(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        found = await super().many(entity_type, sets)
        for result in found:
            if isinstance(result, ImgsyncError):
                raise result
        return found


@mutant("test_what_is_refused_costs_only_itself")
class RefusedAreLeftOut(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        found = await super().many(entity_type, sets)
        return [result for result in found if isinstance(result, list)]


@mutant("test_more_lists_than_there_is_room_for_are_not_sent")
class TakesAnyNumber(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        half = len(sets) // 2
        if half == 0:
            return await super().many(entity_type, sets)
        return [
            *await self.many(entity_type, sets[:half]),
            *await self.many(entity_type, sets[half:]),
        ]


@mutant("test_each_of_many_lists_has_its_permit_confirmed")
class AsksTheFirstOnly(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        return await super().many(
            entity_type,
            [replace(one, permit=UNLIMITED) if n else one for n, one in enumerate(sets)],
        )


@mutant("test_many_permits_are_confirmed_side_by_side")
class AsksInTurn(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        for one in sets:
            await one.permit.confirm()
        return await super().many(entity_type, sets)


@mutant("test_of_many_lists_those_without_a_permit_are_left_out")
class OneLostIsAllLost(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        for one in sets:
            await one.permit.confirm()
        return await super().many(entity_type, sets)


@mutant("test_of_many_lists_those_without_a_permit_are_left_out")
class SendsTheLostToo(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        found = await super().many(entity_type, sets)
        sent = await super().many(entity_type, [replace(one, permit=UNLIMITED) for one in sets])
        return [
            one if isinstance(one, ImgsyncError) else two
            for one, two in zip(found, sent, strict=True)
        ]


@mutant("test_many_lists_that_outlast_the_shortest_permit_are_broken_off")
class TheLongestPermitCounts(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        for one in sets:
            await one.permit.confirm()
        return await super().many(entity_type, [replace(one, permit=UNLIMITED) for one in sets])


@mutant("test_the_sizes_of_images_are_shown")
class ShowsWhatWasSent(_ManyMutant):
    async def many(self, entity_type: EntityType, sets: Sequence[ImageSet]) -> Results:
        sizes = [e.size for one in sets for e in one.elements if isinstance(e, Upload)]
        self._show(Abilities(accepted_image_bytes=max(sizes, default=None)))
        return await super().many(entity_type, sets)


@mutant("test_an_entity_is_made_and_deleted")
class DeletesNothing(MemoryMoySklad):
    async def delete_entity(self, entity_type: EntityType, entity_id: str) -> None:
        return


@mutant("test_an_entity_is_made_and_deleted")
class ForgetsTheExternalCode(MemoryMoySklad):
    async def create_entity(self, entity_type: EntityType, name: str, external_code: str) -> str:
        return await super().create_entity(entity_type, name, "")


@mutant("test_the_host_of_an_image_is_told")
class HostOfNoImage(MemoryMoySklad):
    async def storage_of(self, url: str) -> str:
        try:
            return await super().storage_of(url)
        except ImageError:
            return "memory.example"


@mutant("test_lengths_that_are_told_are_shown")
class ShowsThatSomethingIsGone(MemoryMoySklad):
    async def content_length(self, url: str) -> int | None:
        length = await super().content_length(url)
        self._show(Abilities(head=length is not None))
        return length


@mutant("test_entities_can_be_asked_for_by_the_values_of_a_field")
class OnlyTheFirstValue(MemoryMoySklad):
    def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        if having := options.get("having"):
            options["having"] = (having[0], having[1][:1])
        return super().list_entities(entity_type, with_images=with_images, **options)


@mutant("test_entities_can_be_asked_for_by_their_ids")
class WhateverIdTheyHave(MemoryMoySklad):
    def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        options.pop("ids", None)
        return super().list_entities(entity_type, with_images=with_images, **options)


@mutant("test_entities_can_be_asked_for_by_when_they_changed")
class WhateverHasChanged(MemoryMoySklad):
    def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        options.pop("updated_since", None)
        return super().list_entities(entity_type, with_images=with_images, **options)


@mutant("test_entities_can_be_asked_for_by_when_they_changed")
class ChangesInTheWrongZone(MemoryMoySklad):
    def list_entities(
        self, entity_type: EntityType, *, with_images: bool, **options: Any
    ) -> AsyncIterator[EntityPage]:
        if since := options.get("updated_since"):
            options["updated_since"] = since + timedelta(hours=3)
        return super().list_entities(entity_type, with_images=with_images, **options)


@mutant("test_webhooks_are_made_and_listed")
class MakesPlainWebhooks(MemoryMoySklad):
    async def save_webhooks(self, webhooks: Sequence[Webhook]) -> list[ImgsyncError | None]:
        return await super().save_webhooks([replace(one, fields=False) for one in webhooks])


@mutant("test_a_webhook_comes_once")
class OneRefusedWebhookIsAll(MemoryMoySklad):
    async def save_webhooks(self, webhooks: Sequence[Webhook]) -> list[ImgsyncError | None]:
        before = dict(self.hooks)
        results = await super().save_webhooks(webhooks)
        if any(results):
            self.hooks = before
        return results


@mutant("test_webhooks_of_one_type_and_action_have_a_limit")
class WebhooksWithoutLimit(MemoryMoySklad):
    async def save_webhooks(self, webhooks: Sequence[Webhook]) -> list[ImgsyncError | None]:
        self.most_webhooks = 1000
        return await super().save_webhooks(webhooks)


@mutant("test_a_webhook_is_changed")
class WebhooksStayOff(MemoryMoySklad):
    async def save_webhooks(self, webhooks: Sequence[Webhook]) -> list[ImgsyncError | None]:
        kept = [
            replace(one, enabled=self.hooks[one.id].enabled) if one.id in self.hooks else one
            for one in webhooks
        ]
        return await super().save_webhooks(kept)


@mutant("test_webhooks_are_deleted")
class TheGoneWebhookEndsIt(MemoryMoySklad):
    async def delete_webhooks(self, webhook_ids: Sequence[str]) -> None:
        for webhook_id in webhook_ids:
            if webhook_id not in self.hooks:
                return
            await super().delete_webhooks([webhook_id])
