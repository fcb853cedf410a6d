"""How commands tell of an account that is parked."""

from imgsync.application.parking import PAUSED
from imgsync.domain.model import NO_END, Parking
from imgsync.entrypoints.translation import gettext


def parking_in_words(parking: Parking | None, name: str) -> str:
    """What ends it, and why it is; `name` is the account's."""
    if parking is None:
        return ""
    if parking.reason == PAUSED:
        # As a shell takes it.
        name = f'"{name}"' if " " in name else name
        return gettext(
            "until 'imgsync queue resume %(name)s': %(why)s", name=name, why=parking.reason
        )
    if parking.until == NO_END:
        return gettext("until a new token comes: %(why)s", why=parking.reason)
    return gettext(
        "until %(until)s UTC: %(why)s",
        until=f"{parking.until:%Y-%m-%d %H:%M}",
        why=parking.reason,
    )


def parking_as_dict(parking: Parking | None) -> dict[str, str] | None:
    if parking is None:
        return None
    return {"reason": parking.reason, "until": parking.until.isoformat()}
