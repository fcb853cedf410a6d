"""Which image of the child's list was made from which element of a request."""

from collections.abc import Sequence

from imgsync.domain.elements import Element, Keep
from imgsync.domain.images import RemoteImage, last_segment


def in_order(elements: Sequence[Element], images: Sequence[RemoteImage]) -> bool:
    """True where the images are those of the elements, one by one."""
    return len(elements) == len(images) and all(map(_same, elements, images))


def places(
    elements: Sequence[Element], answered: Sequence[RemoteImage], listed: Sequence[RemoteImage]
) -> list[RemoteImage] | None:
    """The image of `listed` that each element became; None where that cannot be told.

    `answered`: what the API answered to the request. It is taken at its word only where the list
    says the same, image by image, and each image has at least the name or the size that was sent:
    then the API has given new names or written the files anew.
    """
    if len(elements) != len(listed):
        return None
    left = list(listed)
    found = []
    for element, same_place in zip(elements, listed, strict=True):
        # Of two that look the same, the one in the same place.
        candidates = [same_place, *left] if same_place in left else left
        image = next((i for i in candidates if _same(element, i)), None)
        if image is None:
            break
        left.remove(image)
        found.append(image)
    else:
        return found
    told = [image.id for image in answered] == [image.id for image in listed]
    return list(listed) if told and all(map(_alike, elements, listed)) else None


def _same(element: Element, image: RemoteImage) -> bool:
    if isinstance(element, Keep):
        return last_segment(element.href) == image.id
    return image.filename == element.filename and image.size in (0, element.size)


def _alike(element: Element, image: RemoteImage) -> bool:
    if isinstance(element, Keep):
        return last_segment(element.href) == image.id
    return image.filename == element.filename or image.size in (0, element.size)
