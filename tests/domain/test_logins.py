"""Where attempts to log in come from, and which are let through."""

import pytest

from imgsync.domain.logins import (
    Admission,
    LoginLimits,
    Tried,
    is_known,
    known_browser,
    stranger_at,
)

LIMITS = LoginLimits()


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2ff::1", "2001:db8:1:200::/56"),
        ("2001:db8:1:2aa:9:9:9:9", "2001:db8:1:200::/56"),
        ("2001:db8:1:300::1", "2001:db8:1:300::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        ("browser abc", "?"),
        ("", "?"),
    ],
)
def test_who_has_one_address_has_those_beside_it(address: str, origin: str) -> None:
    """And nobody is taken for a known browser by an address."""
    assert stranger_at(address) == origin
    assert not is_known(stranger_at(address))


@pytest.mark.parametrize(
    ("tried", "stranger", "known"),
    [
        (Tried(9, 9, 0), Admission.CHECKED, Admission.CHECKED),
        (Tried(10, 10, 0), Admission.OWN, Admission.OWN),
        (Tried(9, 99, 399), Admission.CHECKED, Admission.CHECKED),
        (Tried(0, 0, 400), Admission.CHECKED, Admission.CHECKED),
        (Tried(0, 2, 3999), Admission.CHECKED, Admission.CHECKED),
        (Tried(0, 3, 400), Admission.CROWD, Admission.CHECKED),
        (Tried(0, 0, 4000), Admission.CROWD, Admission.CHECKED),
        (Tried(10, 10, 4000), Admission.OWN, Admission.OWN),
    ],
)
def test_in_a_crowd_those_who_have_not_begun_come_first(
    tried: Tried, stranger: Admission, known: Admission
) -> None:
    assert LIMITS.judge("203.0.113.7", tried) is stranger
    assert LIMITS.judge(known_browser("b"), tried) is known
