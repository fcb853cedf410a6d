"""Bodies that create or change an entity (sections Product, Bundle, Variant, Content card)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moysklad_emulator.accounts import EmulatedAccount, EmulatedEntity
from moysklad_emulator.dialect import Dialect
from moysklad_emulator.documents import Documents
from moysklad_emulator.entity_rules import RULES
from moysklad_emulator.errors import ApiError, api_error, not_found
from moysklad_emulator.images import ImageElement
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.links import Links
from moysklad_emulator.queries import View
from moysklad_emulator.uploads import ElementParser, href_of, refuse_unknown

_READ_ONLY = frozenset({"meta", "id", "accountId", "updated"})
"""Fields that answers have and requests may repeat: they change nothing (section General)."""

_MAX_TEXTS = {"description": 4096}


@dataclass(frozen=True, slots=True)
class EntityEditor:
    """Carries out bodies for one account. Decodes uploads, so call it off the event loop."""

    account: EmulatedAccount
    limits: EmulatorLimits
    links: Links
    dialect: Dialect

    def element(self, type_name: str, item: Any, *, bulk: bool) -> EmulatedEntity:
        """One object of a POST: with a meta it updates, without one it creates."""
        if not isinstance(item, dict):
            raise api_error(2005, detail="an object")
        if bulk and "images" in item and self.dialect.bulk_images == "ignored":
            item = {name: value for name, value in item.items() if name != "images"}
        if bulk and "images" in item and self.dialect.bulk_images == "refused":
            raise api_error(1007, parameter="images")
        if "meta" not in item:
            return self.create(type_name, item)
        entity_id = self.links.entity_id(href_of(item, type_name), type_name)
        entity = self.account.entity(type_name, entity_id)
        if entity is None:
            raise not_found(type_name, entity_id)
        return self.update(entity, item)

    def create(self, type_name: str, item: Mapping[str, Any]) -> EmulatedEntity:
        """ApiError where a field is missing, unknown or wrong: nothing is created then."""
        fields = self._fields(type_name, item)
        for name in sorted(RULES[type_name].required):
            if fields.get(name) in (None, ""):
                raise api_error(3000, parameter=name)
        if type_name == "variant":
            fields.setdefault("name", "Variant")
        elements = self._images(item, None)
        return self.account.create_entity(type_name, fields, elements or [])

    def update(self, entity: EmulatedEntity, item: Mapping[str, Any]) -> EmulatedEntity:
        """Changes the fields and the image list that `item` has. ApiError changes nothing, but
        for the images in one dialect.
        """
        fields = self._fields(entity.type, self._without_frozen(entity, item))
        if "name" in fields and not fields["name"]:
            raise api_error(3000, parameter="name")
        try:
            return self.account.update_entity(entity, fields, self._images(item, entity))
        except ApiError:
            if self.dialect.refused_array == "drops":
                self.account.drop_images(entity)
            raise

    def _fields(self, type_name: str, item: Mapping[str, Any]) -> dict[str, Any]:
        rules = RULES[type_name]
        read_only = _READ_ONLY | ({"pathName"} if rules.has_folder else frozenset())
        refuse_unknown(item, read_only | rules.objects | set(rules.values) | {"images"})
        fields = {name: item[name] for name in item if rules.has(name)}
        for name, value in fields.items():
            if name in rules.values:
                self._check_value(name, value, rules.values[name])
            else:
                self._check_object(name, value)
        return fields

    def _without_frozen(self, entity: EmulatedEntity, item: Mapping[str, Any]) -> dict[str, Any]:
        """ApiError 3001 where a field that may be set only once gets another value."""
        documents = Documents(self.links, self.account, View(), self.dialect)
        frozen = RULES[entity.type].frozen & set(item)
        for name in frozen:
            _check_meta(name, item[name])
            if href_of(item[name]) != documents.fields(entity)[name]["meta"]["href"]:
                raise api_error(3001, parameter=name)
        return {name: value for name, value in item.items() if name not in frozen}

    def _check_value(self, name: str, value: Any, kind: type) -> None:
        if not isinstance(value, kind):
            raise api_error(2016, parameter=name)
        maximum = _MAX_TEXTS.get(name, self.limits.max_text)
        if isinstance(value, str) and len(value) > maximum:
            raise api_error(3040, parameter=name, maximum=maximum)

    def _check_object(self, name: str, value: Any) -> None:
        if name in ("product", "assortment"):
            self._check_reference(name, value)
        elif name == "salePlatform":
            _check_meta(name, value)
        elif not isinstance(value, list):
            raise api_error(2016, parameter=name)

    def _check_reference(self, name: str, value: Any) -> None:
        """ApiError 1021 where the meta names no entity of the account."""
        _check_meta(name, value)
        types = ("product",) if name == "product" else ("product", "bundle", "variant")
        type_name = str(value["meta"]["type"])
        entity_id = self.links.entity_id(href_of(value, *types), type_name)
        if self.account.entity(type_name, entity_id) is None:
            raise not_found(type_name, entity_id)

    def _images(
        self, item: Mapping[str, Any], entity: EmulatedEntity | None
    ) -> list[ImageElement] | None:
        """The new list: an array, or the array ``rows`` of an object; None where there is none."""
        data = item.get("images", {})
        if isinstance(data, dict):
            refuse_unknown(data, {"meta", "rows"})
            if "rows" not in data:
                return None
            data = data["rows"]
        if not isinstance(data, list):
            raise api_error(2016, parameter="images")
        parser = ElementParser(self.limits, self.links, self.dialect, entity)
        return parser.elements(data, keep=self.dialect.keep_in_entities)


def _check_meta(name: str, value: Any) -> None:
    if not isinstance(value, dict) or "meta" not in value:
        raise api_error(2014, parameter=name)
    href_of(value)
