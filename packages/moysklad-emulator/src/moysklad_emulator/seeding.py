"""Accounts, users and entities from JSON."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moysklad_emulator.accounts import EmulatedAccount, SeedImage, UserKind
from moysklad_emulator.pictures import SMALLEST_PNG_BYTES, padded_png
from moysklad_emulator.state import Emulator
from moysklad_emulator.webhooks import WebhookRight

_NUMBERS = 2**48


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SeedFile(_Model):
    """An image: a file's `path`, or a whole PNG of exactly `size` bytes.

    Equal `seed`, `filename` and `size` give equal bytes; `seed` is by default the entity's
    external code.
    """

    filename: str
    path: Path | None = None
    size: Annotated[int, Field(ge=SMALLEST_PNG_BYTES)] | None = None
    seed: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "SeedFile":
        if (self.path is None) == (self.size is None):
            raise ValueError("give a path or a size")
        return self

    def load(self, default_seed: str) -> SeedImage:
        """Raises OSError where the file cannot be read."""
        if self.path is not None:
            return self.filename, self.path.read_bytes()
        size = self.size or 0
        seed = default_seed if self.seed is None else self.seed
        name = f"{seed}/{self.filename}/{size}".encode()
        number = int.from_bytes(hashlib.sha256(name).digest()) % _NUMBERS
        return self.filename, padded_png(number, size)


class SeedUser(_Model):
    token: str | None = None
    login: str | None = None
    password: str | None = None
    kind: UserKind | None = None
    weight: int | None = None
    webhooks: WebhookRight | None = None


class SeedEntity(_Model):
    type: str = "product"
    id: str | None = None
    name: str | None
    external_code: str | None = None
    code: str | None = None
    article: str | None = None
    description: str | None = None
    archived: bool = False
    folder: str = ""
    objects: dict[str, Any] = {}
    nulls: list[str] = []
    ui_uuid: str | None = None
    images: list[SeedFile] = []

    def add_to(self, account: EmulatedAccount) -> str:
        fields = self.model_dump(exclude={"type", "images"})
        images = [image.load(self.external_code or self.name or "") for image in self.images]
        return account.add_entity(self.type, **fields, images=images).id


class SeedAccount(_Model):
    name: str
    login: str | None = None
    id: str | None = None
    storage_quota: int | None = None
    permanent_links: bool = True
    webhooks: bool = True
    users: list[SeedUser] = []
    entities: list[SeedEntity] = []


class Seed(_Model):
    """``{"dialect": {...}, "accounts": [{"name", "id"?, "users": [...], "entities": [...]}]}``.

    `dialect`: values of some switches of `Dialect`.
    """

    accounts: list[SeedAccount]
    dialect: dict[str, Any] = {}

    def apply(self, emulator: Emulator) -> dict[str, Any]:
        """Changes the dialect and adds everything; an account whose id exists gets the users and
        entities added.

        Answers ``{"accounts": [{"id", "name", "entities": [id, …]}]}``. Raises ValueError and
        OSError; what came before the error stays.
        """
        emulator.dialect = emulator.dialect.changed(self.dialect)
        return {"accounts": [_apply(emulator, account) for account in self.accounts]}


def _apply(emulator: Emulator, seed: SeedAccount) -> dict[str, Any]:
    account = emulator.account(seed.id) if seed.id else None
    if account is None:
        account = emulator.add_account(
            seed.name,
            login=seed.login,
            id=seed.id,
            storage_quota=seed.storage_quota,
            permanent_links=seed.permanent_links,
            webhooks=seed.webhooks,
        )
    for user in seed.users:
        account.add_user(**user.model_dump())
    entities = [entity.add_to(account) for entity in seed.entities]
    return {"id": account.id, "name": account.name, "entities": entities}


def explained(error: Exception) -> str:
    """What is wrong with an order, a line for each mistake."""
    if not isinstance(error, ValidationError):
        return str(error)
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    return "\n".join(
        ": ".join((".".join(map(str, m["loc"])), m["msg"])) if m["loc"] else m["msg"]
        for m in mistakes
    )
