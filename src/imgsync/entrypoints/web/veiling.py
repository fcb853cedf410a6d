"""Texts of other programs and of the API as a page may show them: no address, no secret."""

import json
import re
from collections.abc import Iterable
from typing import Any

from imgsync.domain.model import Account
from imgsync.entrypoints.web.plain import SCHEME
from imgsync.entrypoints.web.words import gettext as _

_ADDRESS = re.compile(rf"{SCHEME}[^\s\"'<>\\]*", re.IGNORECASE)
_SECRET_NAME = re.compile(r"token|secret|passw|authori[sz]|credential|api_?key", re.IGNORECASE)
_MOST_CHARACTERS = 20_000


class Veil:
    """Hides the secrets of these accounts, and every address: who reads pages is no one to whom
    MoySklad's are to be told."""

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        # The longest first, as one may be a part of another.
        self._secrets = sorted({one.secret for one in accounts}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text, with what can be written as UTF-8 only."""
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        text = _ADDRESS.sub(_("(address)"), text)
        return text.encode("utf-8", "replace").decode("utf-8")

    def json(self, value: Any) -> str:
        """A JSON value as text, cut where it is very long."""
        text = json.dumps(self._value(value), ensure_ascii=False, indent=2)
        if len(text) <= _MOST_CHARACTERS:
            return text
        return f"{text[:_MOST_CHARACTERS]}\n… {_('(the rest is not shown)')}"

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                self(str(name)): "•••" if _SECRET_NAME.search(str(name)) else self._value(one)
                for name, one in value.items()
            }
        if isinstance(value, list):
            return [self._value(one) for one in value]
        return self(value) if isinstance(value, str) else value
