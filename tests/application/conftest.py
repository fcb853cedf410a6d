"""Fixtures of the use-case tests."""

import pytest
from sqlalchemy import Engine

from tests.application.world import World


@pytest.fixture
def world(sqlite_engine: Engine) -> World:
    return World(sqlite_engine)
