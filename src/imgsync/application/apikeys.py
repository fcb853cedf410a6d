"""Keys by which programs use the HTTP API."""

import hashlib
import secrets
from dataclasses import dataclass

from imgsync.domain.errors import ImgsyncError
from imgsync.domain.ports.apikeys import ApiKey, ApiKeys

LONGEST_NAME = 100
_LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class AddApiKey:
    """Makes a key."""

    keys: ApiKeys

    async def __call__(self, name: str, *, may_write: bool) -> str:
        """The key, which is stored nowhere: what is stored tells it from others alone. ImgsyncError
        for a name that is none, or that another key has."""
        if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
            raise ImgsyncError(
                f"the name of a key has 1 to {LONGEST_NAME} characters that can be printed"
            )
        key = "imgsync_" + secrets.token_urlsafe(32)
        if not await self.keys.add(name, hash_of(key), may_write=may_write):
            raise ImgsyncError(f"There is a key '{name}' already; remove it first")
        return key


async def opened_by(keys: ApiKeys, given: str) -> ApiKey | None:
    """The key that somebody gives, where there is such a one."""
    return await keys.use(hash_of(given)) if 0 < len(given) <= _LONGEST_KEY else None


def hash_of(key: str) -> str:
    """Of 256 random bits nobody finds the key by trying, so that a plain hash does."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
