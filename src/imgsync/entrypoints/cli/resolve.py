"""Accounts as people name them, by id or by name; and whether a child receives images."""

from difflib import get_close_matches

from imgsync.domain.accounts import Account, check_roles
from imgsync.domain.errors import ImgsyncError, UnknownAccountError
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository


class AmbiguousNameError(ImgsyncError):
    """Several accounts have this name; the text lists their ids."""


def find_account(accounts: AccountRepository, given: str) -> Account:
    """The account with that id, else the only one of that name.

    AmbiguousNameError; UnknownAccountError, which names the nearest ones.
    """
    try:
        return accounts.get(given)
    except UnknownAccountError as error:
        unknown = error
    stored = accounts.all()
    named = [a for a in stored if a.name == given]
    if not named:
        named = [a for a in stored if given.casefold() in (a.name.casefold(), a.id.casefold())]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(a.id for a in named)
        raise AmbiguousNameError(f"{len(named)} accounts are called '{given}'; give the ID: {ids}")
    near = get_close_matches(given, [text for a in stored for text in (a.name, a.id)])
    if not near:
        raise unknown
    listed = " or ".join(f"'{text}'" for text in dict.fromkeys(near))
    raise ImgsyncError(f"{unknown} (did you mean {listed}?)")


def off_message(child: Account) -> str:
    return (
        f"Image sync is off for child '{child.name}' ({child.id}); nothing was done "
        "(see 'imgsync settings set')."
    )


def receives_nothing(settings: SettingsRepository, main: Account, child: Account) -> bool:
    """Whether image sync is off for the child. WrongAccountError where the two cannot be the
    accounts of a copy at all."""
    check_roles(main, child)
    return not settings.get(child.id).enabled
