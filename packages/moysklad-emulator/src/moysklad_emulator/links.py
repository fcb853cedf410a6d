"""URLs that the API hands out, and the signatures of temporary ones."""

import hashlib
import hmac
import re
import secrets
import time
from urllib.parse import urlencode

from moysklad_emulator.accounts import EmulatedAccount, EmulatedEntity
from moysklad_emulator.dialect import DialectSwitch
from moysklad_emulator.errors import api_error, not_found

API_PREFIX = "/api/remap/1.2"

_ENTITY_PATH = re.compile(r"/entity/([^/?]+)/([^/?]+)/?")
_IMAGE_PATH = re.compile(r"/entity/([^/?]+)/([^/?]+)/images/([^/?]+)/?")


class Links:
    """URLs below `api_url` (…/api/remap/1.2) and those of the storage at `storage_port`."""

    def __init__(self, api_url: str, storage_port: int, switch: DialectSwitch) -> None:
        self.api_url = api_url
        self._storage_port = storage_port
        self._switch = switch
        self._key = secrets.token_bytes(32)

    @property
    def storage_url(self) -> str:
        """Base of the storage's URLs; the dialect names its host."""
        return f"http://{self._switch.dialect.storage_host}:{self._storage_port}"

    def listing(self, type_name: str) -> str:
        return f"{self.api_url}/entity/{type_name}"

    def entity(self, entity: EmulatedEntity) -> str:
        return f"{self.listing(entity.type)}/{entity.id}"

    def images(self, entity: EmulatedEntity) -> str:
        return f"{self.entity(entity)}/images"

    def image(self, entity: EmulatedEntity, image_id: str) -> str:
        return f"{self.images(entity)}/{image_id}"

    def download(self, image_id: str) -> str:
        return f"{self.api_url}/download/{image_id}"

    def permanent(self, account: EmulatedAccount, image_id: str) -> str:
        return f"{self.storage_url}/permanent/{account.id}/{image_id}"

    def miniature(self, account: EmulatedAccount, image_id: str) -> str:
        return f"{self.storage_url}/miniature/{account.id}/{image_id}"

    def temporary(self, account: EmulatedAccount, image_id: str, seconds: float) -> str:
        """A URL on the storage port that works for `seconds` without authorisation."""
        expires = f"{time.time() + seconds:.3f}"
        nonce = secrets.token_urlsafe(12)
        query = {
            "expires": expires,
            "nonce": nonce,
            "signature": self._signature(account.id, image_id, expires, nonce),
        }
        return f"{self.storage_url}/temporary/{account.id}/{image_id}?{urlencode(query)}"

    def is_valid(
        self, account_id: str, image_id: str, expires: str, nonce: str, signature: str
    ) -> bool:
        """Whether the parts are those of a temporary URL that has not expired."""
        genuine = self._signature(account_id, image_id, expires, nonce)
        is_genuine = hmac.compare_digest(genuine.encode(), signature.encode())
        return is_genuine and time.time() < float(expires)

    def entity_id(self, href: object, type_name: str) -> str:
        """Entity id in a meta.href; ApiError 2010, 1059 or 1021."""
        match = _ENTITY_PATH.fullmatch(self._path(href))
        if match is None or match[1] != type_name:
            raise not_found(type_name, str(href))
        return match[2]

    def image_id(self, href: object, entity: EmulatedEntity) -> str:
        """Image id in a meta.href below `entity`; ApiError 2010, 1059 or 1021."""
        match = _IMAGE_PATH.fullmatch(self._path(href))
        if match is None or (match[1], match[2]) != (entity.type, entity.id):
            raise not_found("image", str(href))
        return match[3]

    def _path(self, href: object) -> str:
        if not isinstance(href, str) or not href:
            raise api_error(2010, parameter="href")
        if not href.startswith(self.api_url + "/"):
            raise api_error(1059, parameter="href")
        return href.removeprefix(self.api_url)

    def _signature(self, *parts: str) -> str:
        return hmac.new(self._key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()
