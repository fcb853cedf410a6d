"""The suite of the port `PaceStore`."""

import asyncio
from typing import Any

import pytest

from imgsync.domain.errors import StoreError
from imgsync.domain.ports.pace import PaceStore
from imgsync.testing.contracts.contract import Contract


class _OwnError(Exception):
    pass


class PaceStoreContract(Contract):
    """Proves a `PaceStore`. A test class gives the fixture `store`, which is whatever it keeps its
    data in, `another_process` and `disable`.
    """

    @pytest.fixture
    def store(self) -> Any:
        """To be overridden; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'store'")

    async def another_process(self, store: Any) -> PaceStore:
        """To be overridden: the same store as one more process has it open."""
        raise NotImplementedError("the test class has no 'another_process'")

    async def disable(self, store: Any) -> None:
        """To be overridden: makes the store one that cannot be used."""
        raise NotImplementedError("the test class has no 'disable'")

    async def test_what_one_process_keeps_all_find(self, store: Any) -> None:
        paces = [await self.another_process(store) for _ in range(2)]
        kept = await paces[0].change("a", lambda text, _: ("first \u20bd", text))
        assert kept is None
        assert await paces[1].change("a", lambda text, _: (text or "", text)) == "first \u20bd"
        assert await paces[0].change("a", lambda text, _: ("", text)) == "first \u20bd"
        assert await paces[1].change("b", lambda text, _: ("", text)) is None

    async def test_no_change_is_lost(self, store: Any) -> None:
        paces = [await self.another_process(store) for _ in range(3)]

        def count(text: str | None, _: float) -> tuple[str, int]:
            found = int(text or 0)
            return str(found + 1), found

        found = await asyncio.gather(*(one.change("n", count) for _ in range(20) for one in paces))
        assert sorted(found) == list(range(60))

    async def test_time_is_one_for_all_and_never_goes_back(self, store: Any) -> None:
        paces = [await self.another_process(store) for _ in range(2)]
        moments = [await paces[i % 2].change("t", lambda _, now: ("", now)) for i in range(20)]
        assert moments == sorted(moments)
        assert moments[-1] - moments[0] < 60

    async def test_an_error_of_the_step_changes_nothing(self, store: Any) -> None:
        paces = await self.another_process(store)
        await paces.change("a", lambda _, _now: ("kept", None))

        def fail(text: str | None, _: float) -> tuple[str, None]:
            raise _OwnError(text)

        with pytest.raises(_OwnError, match="kept"):
            await paces.change("a", fail)
        assert await paces.change("a", lambda text, _: (text or "", text)) == "kept"

    async def test_a_store_that_cannot_be_used_says_so(self, store: Any) -> None:
        paces = await self.another_process(store)
        await paces.change("a", lambda _, _now: ("kept", None))
        await self.disable(store)
        with pytest.raises(StoreError):
            await paces.change("a", lambda text, _: (text or "", text))
