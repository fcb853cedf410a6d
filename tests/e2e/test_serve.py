"""imgsync serve as a process of its own."""

import urllib.request

from tests.e2e.conftest import Popen, StartHost, terminate
from tests.shop import Shop


def url_of(process: Popen) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Serving on "), line
    return line.split()[-1]


def test_it_answers_until_it_is_told_to_stop(
    shop: Shop, start_host: StartHost, sqlite_url: str
) -> None:
    host = start_host(shop, sqlite_url)
    process = host.start("serve", "--port", "0")
    url = url_of(process)
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        assert "imgsync" in answer.read().decode()
    port = url.rstrip("/").rpartition(":")[2]
    second = host.start("serve", "--port", port, "--no-worker")
    _, stderr = second.communicate(timeout=20)
    assert second.returncode == 1
    assert f"Error: cannot listen on 127.0.0.1, port {port}" in stderr
    open_to_all = host.start("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    _, stderr = open_to_all.communicate(timeout=20)
    assert open_to_all.returncode == 1
    assert "imgsync serve-password" in stderr
    assert "Traceback" not in terminate(process)
