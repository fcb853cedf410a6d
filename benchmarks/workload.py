"""What is copied: products of a main account and their counterparts with one old image each."""

import uuid
from dataclasses import dataclass
from typing import Any

MAIN, CHILD = "main", "child"
"""Account names, and the tokens of their users."""


def account_id(name: str) -> str:
    """Id of the account in the emulator; imgsync writes to no account whose id is another."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


@dataclass(frozen=True, slots=True)
class Workload:
    """`entities` products with `images` images of `image_bytes` bytes each."""

    entities: int
    images: int
    image_bytes: int

    @property
    def total_images(self) -> int:
        return self.entities * self.images

    def seed(self) -> dict[str, Any]:
        """State for the emulator."""
        sizes = {MAIN: (self.images, self.image_bytes), CHILD: (1, 1000)}
        return {
            "accounts": [
                {
                    "name": name,
                    "id": account_id(name),
                    "users": [{"token": name}],
                    "entities": [self._product(n, *sizes[name]) for n in range(self.entities)],
                }
                for name in (MAIN, CHILD)
            ]
        }

    @staticmethod
    def _product(number: int, images: int, size: int) -> dict[str, Any]:
        return {
            "name": f"Product {number}",
            "external_code": f"x{number}",
            "images": [{"filename": f"{number}-{i}.jpg", "size": size} for i in range(images)],
        }
