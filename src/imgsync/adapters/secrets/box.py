"""Texts encrypted by Fernet, of the package cryptography: AES in CBC mode, signed by HMAC."""

import hashlib
import threading

from imgsync.adapters.secrets.keys import Keys, new_key
from imgsync.domain.errors import MissingKeyError
from imgsync.domain.ports.secrets import key_of


class FernetBox:
    """Implements the port `SecretBox`. Keys are read once, and again where one is missing, as
    another process may have made it since."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._known: dict[str, str] = {}
        self._change = threading.Lock()

    def first(self) -> str:
        keys = self._keys.make()
        self._know(keys)
        return fingerprint_of(keys[0])

    def next(self, present: str) -> str:
        self._keys.take_up()
        keys = self._keys.read()
        self._know(keys)
        self.check(present)
        if fingerprint_of(keys[0]) == present:
            keys.insert(0, new_key())
            self._keys.put(keys)
            # As it is read from there: what was not stored must encrypt nothing.
            self._know(self._keys.read())
        self.check(found := fingerprint_of(keys[0]))
        return found

    def check(self, fingerprint: str) -> None:
        self._key(fingerprint)

    def seal(self, text: str, fingerprint: str) -> str:
        from cryptography.fernet import Fernet

        token = Fernet(self._key(fingerprint)).encrypt(text.encode())
        return f"sealed:{fingerprint}:{token.decode()}"

    def unseal(self, sealed: str) -> str:
        from cryptography.fernet import Fernet, InvalidToken

        fingerprint = key_of(sealed)
        if fingerprint is None:
            raise ValueError("the token is not encrypted")
        try:
            token = sealed.rpartition(":")[2]
            return Fernet(self._key(fingerprint)).decrypt(token).decode()
        except (InvalidToken, UnicodeDecodeError):
            raise ValueError("its encrypted token cannot be read") from None

    def _key(self, fingerprint: str) -> str:
        if fingerprint not in self._known:
            self._know(self._keys.read())
        try:
            return self._known[fingerprint]
        except KeyError:
            here = ", ".join(self._known)
            where = self._keys.where
            told = f"{where} holds {here} instead" if here else f"there is no key in {where}"
            if left := self._keys.left():
                files = ", ".join(map(str, left))
                told += f", but {files} may hold it: 'imgsync account rekey' takes that up"
            raise MissingKeyError(fingerprint, told) from None

    def _know(self, keys: list[str]) -> None:
        with self._change:
            # Nothing is forgotten: what this process encrypted with, it can decrypt.
            self._known = {fingerprint_of(key): key for key in keys} | self._known


def fingerprint_of(key: str) -> str:
    return hashlib.sha256(b"imgsync key " + key.encode()).hexdigest()[:8]
