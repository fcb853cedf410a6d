"""Errors of the domain. Each says whether another attempt may help."""

from collections.abc import Sequence
from enum import StrEnum

from imgsync.domain.text import file_size


class FailureCause(StrEnum):
    """Why an image is not on the child, as people sort such images."""

    TOO_LARGE = "too large"
    NO_PICTURE = "no picture"
    NOT_MADE = "not made"
    NOT_DOWNLOADED = "not downloaded"
    REFUSED = "refused"
    NOT_SENT = "not sent"
    PLUGIN = "plugin"


class ImgsyncError(Exception):
    """Base of every expected error; its text is meant for the user."""

    retryable = False

    def __str__(self) -> str:
        """Never empty, whoever raised it without saying why: it may be all that a user is told."""
        return super().__str__().strip() or f"{type(self).__name__}, without a reason"


class PayloadError(ImgsyncError):
    """A task payload is wrong. `field` is its dotted path, such as ``images.0.filename``."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"Bad payload: field '{field}': {problem}")
        self.field = field
        self.problem = problem


class UnknownAccountError(ImgsyncError):
    """An account id has no stored credentials."""

    def __init__(self, account_id: str, near: Sequence[str] = ()) -> None:
        listed = " or ".join(f"'{text}'" for text in near)
        super().__init__(
            f"Account '{account_id}' is not stored"
            + (f" (did you mean {listed}?)" if listed else "")
        )


class SyncIsOffError(ImgsyncError):
    """A child account receives no images."""

    def __init__(self, name: str, account_id: str) -> None:
        super().__init__(f"Image sync is off for child '{name}' ({account_id}); nothing was done")


class UnknownEntityTypeError(ImgsyncError):
    """No built-in or plugin registers this entity type."""


class PluginError(ImgsyncError):
    """A plugin cannot be loaded or registers something invalid."""


class WrongAccountError(ImgsyncError):
    """Credentials are those of another account than the one they are stored for."""


class WrongRoleError(WrongAccountError):
    """An account stands on the other side of a copy already; `role` is the side asked for."""

    def __init__(self, text: str, account_id: str, role: str) -> None:
        super().__init__(text)
        self.account_id = account_id
        self.role = role


class AlreadyLinkedError(WrongAccountError):
    """The accounts cannot be linked, as one of them stands in another link: `account_id`, which is
    a child of `main_id`, or where that is None a main account."""

    def __init__(self, account_id: str, main_id: str | None) -> None:
        super().__init__(
            f"account '{account_id}' is a child of account '{main_id}' already; unlink it first"
            if main_id is not None
            else f"account '{account_id}' is the main account of others, so it cannot be a child"
        )
        self.account_id = account_id
        self.main_id = main_id


class DamagedLinkError(ImgsyncError):
    """The stored settings of a child cannot be read; another program may have written them."""

    def __init__(self, child_id: str, damage: str, name: str = "") -> None:
        child = f"'{name}' ({child_id})" if name else f"'{child_id}'"
        super().__init__(f"The stored link of child {child} is damaged: {damage}; link it anew")


class ParkingError(ImgsyncError):
    """An answer that every further request of the account would meet again.

    `account_id` names the account where the adapter knows it; its tasks are parked, not failed.
    """

    def __init__(self, text: str, account_id: str | None = None) -> None:
        super().__init__(text)
        self.account_id = account_id


class AccountParkedError(ParkingError):
    """The account takes no requests now; nothing was sent."""


class AuthorisationError(ParkingError):
    """The account's credentials are refused (401, codes 1056 and 1061)."""


class PermissionDeniedError(ImgsyncError):
    """403 without such a code: the credentials are good, but not for this request."""


class NoWebhookRightError(PermissionDeniedError):
    """The credentials may not manage webhooks."""


class NoWebhooksError(PermissionDeniedError):
    """The account's tariff has no webhooks."""


class NotFoundError(ImgsyncError):
    """404, code 1021: the entity or image does not exist."""


class ApiError(ImgsyncError):
    """The API refused a request for good, for a reason other than the ones above."""


class WebhookExistsError(ApiError):
    """There is a webhook of this address, type and action already."""


class WebhookLimitError(ApiError):
    """As many others on this type and action exist as there may be."""


class StorageFullError(ParkingError):
    """Code 51003: the child account has no file storage left."""


class ImageRejectedError(ImgsyncError):
    """The API refused an image (codes 51001, 51002, 51004, 51005, 51006)."""


class LargeImageError(ImageRejectedError):
    """Code 51004: an image is larger than the account takes."""


class NoImageError(ImageRejectedError):
    """Code 51002: an image is none to the account."""


class RequestTooLargeError(ImageRejectedError):
    """The request was more than the API takes or can do in its time (codes 1044 and 1088, 413):
    with less in it, it may pass."""


class UnavailableError(ImgsyncError):
    """Timeouts, 5xx, code 51007 or a rate limit that outlasted the client's own retries."""

    retryable = True


class ChildChangedError(ImgsyncError):
    """Someone else changed the child's images while they were being replaced."""

    retryable = True


class ImageError(ImgsyncError):
    """One source image cannot be copied: too large, not an image, gone, forbidden.

    `settled`: no later sync can do better while the image stays the same.
    """

    settled = False


class ImageTooLargeError(ImageError):
    """An image is over the size limit."""

    settled = True

    def __init__(self, size: int | None, limit: int) -> None:
        amount = f"{file_size(size, limit)} is" if size is not None else "it is"
        super().__init__(f"{amount} over the limit of {file_size(limit, size)}")


class NotAnImageError(ImageError):
    """A downloaded file is neither JPEG nor PNG, or does not decode although it is complete."""

    settled = True

    def __init__(self, text: str = "it is neither a JPEG nor a PNG file") -> None:
        super().__init__(text)


class TooManyPixelsError(ImageError):
    """A picture has more pixels than are decoded: a decompression bomb, or a giant."""

    settled = True


class EditError(ImageError):
    """A picture could not be made another one: it took more time or memory than it may, or cannot
    be done. Not settled: a quieter or larger machine may do it."""


class ImpossibleEditError(EditError):
    """No machine can make the picture what is asked."""

    settled = True


class ForbiddenUrlError(ImageError):
    """A download address that may not be asked; configuration may allow it later."""


class NoImageUploadedError(ImgsyncError):
    """A task ended with no image on the child."""

    def __init__(self, reasons: list[str], *, retryable: bool) -> None:
        super().__init__("No image was uploaded: " + "; ".join(reasons))
        self.reasons = reasons
        self.retryable = retryable


class ClearLimitError(ImgsyncError):
    """A run would clear the images of more entities than it may; `examples` names some."""

    def __init__(self, clears: int, allowed: int, examples: Sequence[str] = ()) -> None:
        among = f" (among them {', '.join(examples)})" if examples else ""
        super().__init__(
            f"The images of {clears} child entities would be cleared{among}, as the main account "
            f"has none there any more; that is over the limit of {allowed}, so none are"
        )
        self.clears = clears


class NoLinkError(ImgsyncError):
    """No account is linked, or none to the main account that was named."""


class NoRoomError(ImgsyncError):
    """The disk of the temp folder or of the database is full, or the folder is gone.

    No task's fault: the worker takes no task until there is room.
    """


class BusyChildError(ImgsyncError):
    """Another survey of the child is under way."""

    retryable = True

    def __init__(self) -> None:
        super().__init__("another survey is under way")


class StoreError(ImgsyncError):
    """The store of tasks, accounts, settings or records cannot be used now; the text shows no
    secret."""

    retryable = True


class StoreUrlError(StoreError):
    """A URL names no store of its kind; the text shows nothing of it, and says not where it was
    set."""

    retryable = False


class UnlistedQueueError(StoreError):
    """The tasks of a queue of this kind cannot be listed, cancelled or deleted."""

    retryable = False


class DamagedRowError(StoreError):
    """What is stored cannot be read, as another program wrote it, or as it was damaged."""

    retryable = False


class MissingKeyError(StoreError):
    """Secrets are encrypted by a key that is not here: `fingerprint`. Nothing is changed.

    No task's fault: as with `NoRoomError`, the worker takes none until the key is here.
    """

    def __init__(self, fingerprint: str, here: str) -> None:
        super().__init__(
            f"The tokens in the database are encrypted with key {fingerprint}, and {here}; "
            "give that key back, and nothing is lost (IMGSYNC_KEY_FILE, IMGSYNC_KEY)"
        )
        self.fingerprint = fingerprint


class KeyStoreError(StoreError):
    """The place of the keys cannot be read or written, or holds something else."""

    retryable = False


class LeaseLostError(ImgsyncError):
    """The lease of a task lapsed and another worker may hold it now."""


class UnsafePathError(ImgsyncError):
    """A file would lie outside the temp folder."""
