"""Proves by content that the images of a child's entity are those of main's."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from imgsync.application.abilities import known_of, trust_learnt
from imgsync.application.fetch import ImageFetcher
from imgsync.application.fill import digest_of, side_by_side
from imgsync.application.survey import Surveyed
from imgsync.domain.diff import CopiedImage, ImageOutcome, Making, SyncRecord
from imgsync.domain.errors import ImgsyncError, NoRoomError
from imgsync.domain.limits import size_limit
from imgsync.domain.model import RemoteImage, SourceImage, SyncRequest
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.ports.repositories import AbilityRepository, SyncRecordRepository
from imgsync.domain.ports.runner import ImageTransform
from imgsync.domain.ports.storage import ContentStore, Workspace


@dataclass(frozen=True, slots=True)
class Proof:
    """What the content of an entity's images showed. `unlike`: names of those whose content is
    another; `unproved`: of those that could not be compared, each with the reason; `equal`: how
    many are equal."""

    found: Surveyed
    equal: int = 0
    unlike: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prove:
    """Downloads the images of both accounts and compares them: main's as they are sent by the
    settings of the link. Those of main are downloaded once for all children."""

    records: SyncRecordRepository
    moysklad: MoySkladFactory
    storage: ContentStore
    pictures: PictureCheck
    transform: ImageTransform | None = None
    abilities: AbilityRepository | None = None

    async def __call__(self, found: Surveyed) -> Proof:
        """Of an entity that is equal by what the accounts list. Errors that concern an account are
        raised."""
        record = found.adopted
        if record is None and found.key is not None:
            record = await self.records.get(found.key)
        if found.key is None or record is None:
            return Proof(found)
        main = self.moysklad.for_account(found.link.main)
        child = self.moysklad.for_account(found.link.child)
        await trust_learnt(self.abilities, main, found.link.main.id)
        known = await known_of(self.abilities, child, found.link.child.id)
        limit = size_limit(known, child.limits.image_bytes)
        if not found.link.settings.pictures.fit:
            limit = child.limits.image_bytes
        async with self.storage.workspace() as workspace:
            fetcher = ImageFetcher(
                main,
                found.link.main.id,
                workspace,
                self.pictures,
                self.transform,
                found.link.settings.pictures,
                limit or None,
                _request(found),
            )
            return await self._compare(found, record, fetcher, child, workspace)

    async def _compare(
        self,
        found: Surveyed,
        record: SyncRecord,
        fetcher: ImageFetcher,
        child: MoySkladPort,
        workspace: Workspace,
    ) -> Proof:
        pairs, unproved = _pairs(found, record)
        outcomes = await fetcher.fetch([ImageOutcome(image) for image, _, _ in pairs])
        gate = asyncio.Semaphore(child.limits.parallel_requests)

        async def digest(image: RemoteImage) -> str | None:
            async with gate:
                return await digest_of(child, workspace, image)

        digests = await side_by_side(digest(there) for _, there, _ in pairs)
        making = Making(
            found.link.settings.pictures, self.transform.versions if self.transform else ""
        )
        unlike = []
        for outcome, (_, there, copied), theirs in zip(outcomes, pairs, digests, strict=True):
            if outcome.content is None:
                unproved.append(f"{outcome.image.filename}: {outcome.problem}")
            elif theirs is None:
                unproved.append(f"{there.filename}: the child's image cannot be downloaded")
            elif not _is_equal(outcome, copied, theirs, making):
                unlike.append(there.filename)
        equal = (
            len(pairs)
            - len(unlike)
            - sum(o.content is None or d is None for o, d in zip(outcomes, digests, strict=True))
        )
        return Proof(found, equal, tuple(unlike), tuple(unproved))


def _pairs(
    found: Surveyed, record: SyncRecord
) -> tuple[list[tuple[SourceImage, RemoteImage, CopiedImage]], list[str]]:
    """Each copy with both of its images; and what is said of one that is not found again."""
    images = {image.fingerprint: image for image in found.listed}
    there = {image.id: image for image in found.child_images or ()}
    pairs, unproved = [], []
    for copied in record.copied:
        source, image = images.get(copied.source), there.get(copied.child_image_id)
        if source is None or image is None:
            unproved.append(f"image {copied.child_image_id}: it is no longer what was copied")
        else:
            pairs.append((source, image, copied))
    return pairs, unproved


def _is_equal(outcome: ImageOutcome, copied: CopiedImage, theirs: str, making: Making) -> bool:
    """A copy that was made to fit another limit than today's is still what it was made."""
    content = outcome.content
    if content is None or theirs == content.uploaded:
        return content is not None
    made = copied.content
    return (
        made is not None
        and (made.source, made.uploaded) == (content.source, theirs)
        and making.makes_the_same(made)
    )


def _request(found: Surveyed) -> SyncRequest | None:
    """What a transformation of a plugin is told of: the request that a copy would have had."""
    if found.key is None:
        return None
    return SyncRequest(
        found.link.main.id,
        found.link.child.id,
        found.entity_type,
        found.main_id,
        found.key.child_entity_id,
        found.listed,
        found.name,
        found.child_images,
    )


async def prove_all(prove: Prove, some: Sequence[Surveyed]) -> list[Proof]:
    """Of these, side by side; one whose account fails costs itself only."""

    async def one(found: Surveyed) -> Proof:
        try:
            return await prove(found)
        except NoRoomError:
            raise
        except ImgsyncError as error:
            return Proof(found, unproved=(str(error),))

    return await side_by_side(map(one, some))
