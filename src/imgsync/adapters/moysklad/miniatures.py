"""Where MoySklad has the miniature of an image."""

from imgsync.domain.model import RemoteImage


def miniature_address(image: RemoteImage) -> str:
    """The ``href`` of its ``miniature``, which makes one where none was made yet: its
    ``downloadHref`` is null then."""
    return f"{image.download_href.split('?', 1)[0]}?miniature=true"
