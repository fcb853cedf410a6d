"""A queue of another kind says in one line that it cannot be listed."""

import pytest

from imgsync.domain.errors import UnlistedQueueError
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container


def test_a_queue_on_procrastinate_is_not_listed() -> None:
    config = fixed_config(queue_url="procrastinate://user:s3cret@localhost/db")
    with pytest.raises(UnlistedQueueError, match="queue on procrastinate cannot be listed") as told:
        Container(config=config).task_list()
    assert "s3cret" not in str(told.value)
