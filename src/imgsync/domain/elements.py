"""What a child's image list is set to: images that stay, and images that are sent."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keep:
    """An image that is on the child already; `href` is its meta.href."""

    href: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to send. `key` names its downloaded file, `size` is that file's bytes.

    `replaces`: href of the child's earlier copy, which holds its place until it is there.
    """

    key: str
    filename: str
    size: int
    replaces: str | None = None

    @property
    def stand_in(self) -> Keep | None:
        """The earlier copy."""
        return None if self.replaces is None else Keep(self.replaces)


Element = Keep | Upload
"""A place in the list that a request sets."""
