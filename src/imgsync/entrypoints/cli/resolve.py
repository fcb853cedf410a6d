"""What commands say of a child for which image sync is off."""

from imgsync.domain.model import Account


def off_message(child: Account) -> str:
    return (
        f"Image sync is off for child '{child.name}' ({child.id}); nothing was done "
        "(see 'imgsync settings set')."
    )
