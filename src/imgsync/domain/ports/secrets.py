"""Ports to the encryption of secrets, and to what is encrypted.

A key is told by its fingerprint, 8 hexadecimal digits, which tells nothing of the key itself.
"""

import re
from dataclasses import dataclass
from typing import Protocol

_SEALED = re.compile(r"sealed:([0-9a-f]{8}):[A-Za-z0-9_=-]+")


def key_of(text: str) -> str | None:
    """Fingerprint of the key that encrypted a stored text; None for a plain one."""
    found = _SEALED.fullmatch(text)
    return found and found[1]


class SecretBox(Protocol):
    """Encrypts and decrypts texts. Not async: it computes, and reads a small file where a key is
    not known yet; it is called in a store's threads.

    KeyStoreError where the place of the keys cannot be used.
    """

    def first(self) -> str:
        """Fingerprint of the key to begin with; one is made where there is none at all."""
        ...

    def next(self, present: str) -> str:
        """Fingerprint of the key that is to follow the `present` one, which is kept: one that is
        here already and comes before it, such as one that was made when an earlier change was
        cut, else a new one. It is stored safely at the return. KeyStoreError where none can be
        made there; MissingKeyError where the present one is not here."""
        ...

    def check(self, fingerprint: str) -> None:
        """MissingKeyError where that key is not here."""
        ...

    def seal(self, text: str, fingerprint: str) -> str:
        """The text encrypted with that key, such that `key_of` tells it. MissingKeyError."""
        ...

    def unseal(self, sealed: str) -> str:
        """What `seal` was given. MissingKeyError; ValueError for what is damaged."""
        ...


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """Fingerprints of the key before, None where there was none, and of the one from now on; how
    many secrets were encrypted with it."""

    before: str | None
    now: str
    secrets: int


class StoredSecrets(Protocol):
    """All secrets that are stored, whatever they are of."""

    async def rekey(self) -> Rekeyed:
        """Encrypts all with the box's next key, all together or none, whoever writes or reads at
        the same time. MissingKeyError, KeyStoreError; StoreError where the store cannot be used."""
        ...
