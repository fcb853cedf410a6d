"""Entity types: the fields that the emulator stores of each (sections Product, Bundle, …).

A field of the API that is not here is one that the emulator does not play: it is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_EQUALITY = frozenset({"=", "!="})
_ORDER = _EQUALITY | {"<", ">", "<=", ">="}

_GOODS = {
    "name": str,
    "externalCode": str,
    "code": str,
    "article": str,
    "description": str,
    "archived": bool,
}
_VARIANT_FILTERS = dict.fromkeys(("id", "accountId", *_GOODS), _EQUALITY) | {"updated": _ORDER}
_GOODS_FILTERS = _VARIANT_FILTERS | {"pathName": _EQUALITY}


@dataclass(frozen=True, slots=True)
class EntityRules:
    """Fields of a type.

    `values`: stored values and their Python types. `objects`: objects and arrays that are stored
    as they come. `required`: what a new entity must have. `frozen`: what may be set only then.
    `filters`: fields that `filter` takes and their operators (the operators of likeness are not
    played). `has_updated`: whether answers tell `updated`; `has_folder`: whether they tell the
    product folder. A variant tells none: its product does.
    """

    values: Mapping[str, type]
    filters: Mapping[str, frozenset[str]]
    objects: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset({"name"})
    frozen: frozenset[str] = field(default_factory=frozenset)
    has_updated: bool = True
    has_folder: bool = False

    def has(self, name: str) -> bool:
        return name in self.values or name in self.objects


RULES: Mapping[str, EntityRules] = {
    "product": EntityRules(_GOODS, _GOODS_FILTERS, has_folder=True),
    "bundle": EntityRules(_GOODS, _GOODS_FILTERS, frozenset({"components"}), has_folder=True),
    "variant": EntityRules(
        _GOODS,
        _VARIANT_FILTERS,
        objects=frozenset({"product", "characteristics"}),
        required=frozenset({"product", "characteristics"}),
    ),
    # A content card has no externalCode, code, article, archived and updated.
    "contentcard": EntityRules(
        {"name": str, "description": str, "cardContentName": str},
        dict.fromkeys(("id", "accountId", "assortment", "salePlatform"), _EQUALITY),
        objects=frozenset({"assortment", "salePlatform", "salesChannels"}),
        required=frozenset(
            {
                "name",
                "description",
                "cardContentName",
                "assortment",
                "salePlatform",
                "salesChannels",
            }
        ),
        frozen=frozenset({"assortment"}),
        has_updated=False,
    ),
}
