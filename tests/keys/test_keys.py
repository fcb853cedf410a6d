"""Where keys are kept, and what is done with a place that holds none."""

import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from imgsync.adapters.secrets import keys as keys_module
from imgsync.adapters.secrets.box import FernetBox, fingerprint_of
from imgsync.adapters.secrets.keys import GivenKeys, KeyFile, KeyringKeys, new_key
from imgsync.domain.errors import KeyStoreError, MissingKeyError
from imgsync.domain.ports.secrets import key_of

TOKEN = "hush-hush-token"


def test_a_text_comes_back_and_tells_its_key_but_not_itself(tmp_path: Path) -> None:
    box = FernetBox(KeyFile(tmp_path / "a" / "key"))
    sealed = box.seal(TOKEN, box.first())
    assert TOKEN not in sealed
    assert key_of(sealed) == box.first()
    assert FernetBox(KeyFile(tmp_path / "a" / "key")).unseal(sealed) == TOKEN
    assert key_of(TOKEN) is None


def test_a_key_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    KeyFile(file).make()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    before = file.read_bytes()
    KeyFile(file).read()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == before


def test_those_that_make_the_first_key_at_once_have_the_same(tmp_path: Path) -> None:
    made = list[list[str]]()
    start = threading.Barrier(8)

    def make() -> None:
        start.wait(30)
        made.append(KeyFile(tmp_path / "deep" / "key").make())

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 8
    assert len({tuple(keys) for keys in made}) == 1
    assert os.listdir(tmp_path / "deep") == ["key"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no key"),
        (b"# only words\n", "holds no key"),
        (b"\xff\xfe", "holds no keys"),
        (new_key().encode()[:-9] + b"\n", "as key 1 of 1"),
        (f"{new_key()}\nSECRET-THAT-IS-NONE\n".encode(), "as key 2 of 2"),
    ],
    ids=["empty", "words", "no text", "cut", "of something else"],
)
def test_a_file_that_is_cut_or_of_something_else_is_named_and_left(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    for use in (KeyFile(file).read, KeyFile(file).make, FernetBox(KeyFile(file)).first):
        with pytest.raises(KeyStoreError, match=said) as caught:
            use()
        assert str(file) in str(caught.value)
        assert "SECRET-THAT" not in str(caught.value)
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == ["key"]


def test_a_place_that_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeyStoreError, match="is no file"):
        KeyFile(tmp_path / "pipe").read()
    with pytest.raises(KeyStoreError, match="Cannot read the key file"):
        KeyFile(tmp_path).read()
    (tmp_path / "file").touch()
    with pytest.raises(KeyStoreError, match="Cannot read the key file"):
        KeyFile(tmp_path / "file" / "key").make()


def test_a_key_that_is_not_here_is_told_by_its_fingerprint(tmp_path: Path) -> None:
    there, here = new_key(), new_key()
    sealed = FernetBox(GivenKeys(there, "the variable")).seal(TOKEN, fingerprint_of(there))
    with pytest.raises(MissingKeyError) as caught:
        FernetBox(GivenKeys(here, "the variable")).unseal(sealed)
    text = str(caught.value)
    assert fingerprint_of(there) in text
    assert fingerprint_of(here) in text
    assert "\n" not in text
    assert there not in text
    assert here not in text
    with pytest.raises(MissingKeyError, match="there is no key in the key file"):
        FernetBox(KeyFile(tmp_path / "none")).unseal(sealed)
    assert FernetBox(GivenKeys(f"{here} , {there}", "it")).unseal(sealed) == TOKEN


def test_a_damaged_text_is_no_token_and_no_missing_key() -> None:
    key = new_key()
    box = FernetBox(GivenKeys(key, "it"))
    sealed = box.seal(TOKEN, fingerprint_of(key))
    for damaged in (sealed[:-4], sealed[:-8] + "AAAAAAA=", f"sealed:{fingerprint_of(key)}:x"):
        with pytest.raises(ValueError, match="cannot be read"):
            box.unseal(damaged)


def test_the_next_key_stands_first_and_an_earlier_attempt_is_taken_up(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "key")
    box = FernetBox(file)
    first = box.first()
    following = box.next(first)
    assert [fingerprint_of(key) for key in file.read()] == [following, first]
    # The database was not changed: the process was killed, and another one does it again.
    assert FernetBox(file).next(first) == following
    assert len(file.read()) == 2
    with pytest.raises(MissingKeyError):
        FernetBox(file).next("00000000")
    # A process that has been running since before knows it too.
    running = FernetBox(file)
    last = FernetBox(file).next(following)
    assert running.unseal(FernetBox(file).seal(TOKEN, last)) == TOKEN


def test_given_keys_are_changed_by_whoever_gives_them() -> None:
    old, new = new_key(), new_key()
    with pytest.raises(KeyStoreError, match="IMGSYNC_KEY") as caught:
        FernetBox(GivenKeys(old, "the variable IMGSYNC_KEY")).next(fingerprint_of(old))
    assert old not in str(caught.value)
    both = FernetBox(GivenKeys(f"{new},{old}", "it"))
    assert both.next(fingerprint_of(old)) == fingerprint_of(new)


class Keyring(ModuleType):
    """A keyring that holds one password."""

    held: str | None = None
    broken = False

    def get_password(self, _service: str, _name: str) -> str | None:
        if self.broken:
            raise RuntimeError(f"no session bus, {self.held}")
        return self.held

    def set_password(self, _service: str, _name: str, password: str) -> None:
        self.held = password


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    monkeypatch.setitem(sys.modules, "keyring", keyring := Keyring("keyring"))
    return keyring


def test_keys_may_be_in_the_systems_keyring(keyring: Keyring, tmp_path: Path) -> None:
    lock = tmp_path / "config" / "lock"
    box = FernetBox(KeyringKeys(lock))
    with pytest.raises(MissingKeyError, match="no key in the system's keyring"):
        box.check("00000000")
    assert keyring.held is None
    first = box.first()
    sealed = box.seal(TOKEN, first)
    assert FernetBox(KeyringKeys(lock)).next(first) != first
    assert FernetBox(KeyringKeys(lock)).unseal(sealed) == TOKEN
    assert lock.stat().st_mode & 0o777 == 0o600
    keyring.broken = True
    with pytest.raises(KeyStoreError, match=r"cannot be used \(RuntimeError\)") as caught:
        FernetBox(KeyringKeys(lock)).unseal(sealed)
    assert str(keyring.held) not in str(caught.value)


class SlowKeyring(Keyring):
    """Whoever writes has read long before."""

    def get_password(self, _service: str, _name: str) -> str | None:
        held = self.held
        time.sleep(0.01)
        return held


def test_of_databases_with_one_keyring_that_are_rekeyed_at_once_none_loses_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", SlowKeyring("keyring"))
    lock = tmp_path / "lock"
    start = threading.Barrier(8)
    made = list[str]()

    def rekey() -> None:
        box = FernetBox(KeyringKeys(lock))
        start.wait(30)
        first = box.first()
        start.wait(30)
        made.extend([first, box.next(first)])

    threads = [threading.Thread(target=rekey) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 16
    assert len(set(made[::2])) == 1  # they made the first one at once, too
    assert set(made) == {fingerprint_of(key) for key in KeyringKeys(lock).read()}


class RivalledKeyring(Keyring):
    """Processes of which no lock tells put keys of their own in the place of others."""

    rivals: list[str]

    def set_password(self, _service: str, _name: str, password: str) -> None:
        self.held = self.rivals.pop() if self.rivals else password


def test_where_there_can_be_no_lock_keys_are_put_until_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", keyring := RivalledKeyring("keyring"))
    (tmp_path / "no folder").write_text("")
    keys = KeyringKeys(tmp_path / "no folder" / "lock")
    mine, rivals = new_key(), [new_key() for _ in range(2)]
    keyring.rivals = list(rivals)
    keys.put([mine])
    assert keys.read() == [mine, rivals[0]]
    keyring.rivals = [new_key() for _ in range(9)]
    with pytest.raises(KeyStoreError, match="does not keep"):
        keys.put([new_key()])


def test_without_its_package_the_keyring_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyStoreError, match=r"imgsync\[keyring\]"):
        FernetBox(KeyringKeys(tmp_path / "lock")).first()


def test_a_new_key_is_put_where_a_link_leads(tmp_path: Path) -> None:
    file, link = tmp_path / "shared" / "key", tmp_path / "key"
    KeyFile(file).make()
    link.symlink_to(file)
    following = FernetBox(KeyFile(link)).next(FernetBox(KeyFile(link)).first())
    assert link.is_symlink()
    assert fingerprint_of(KeyFile(file).read()[0]) == following
    assert os.listdir(file.parent) == ["key"]


def test_a_new_key_leaves_the_file_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where root rekeys, and services of another user go on reading."""
    file = KeyFile(tmp_path / "key")
    file.make()
    there = (tmp_path / "key").stat()
    fstat, given = os.fstat, list[tuple[int, int]]()

    def of_root(file: int) -> os.stat_result:
        found = fstat(file)
        return os.stat_result([*found[:4], there.st_uid + 1, there.st_gid + 2, *found[6:]])

    monkeypatch.setattr(os, "fstat", of_root)
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    file.put([new_key()])
    assert given == [(there.st_uid, there.st_gid)]

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    before = file.read()
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(KeyStoreError, match="nothing is changed"):
        file.put([new_key()])
    assert file.read() == before
    assert os.listdir(tmp_path) == ["key"]


def left_file(folder: Path, content: str) -> Path:
    file = folder / f".key.{'0123456789abcdef'}"
    file.write_text(content)
    file.chmod(0o600)
    return file


def test_what_a_killed_rekeying_left_is_taken_up_by_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, box = KeyFile(tmp_path / "key"), FernetBox(KeyFile(tmp_path / "key"))
    (old,) = keys = file.make()
    unused = new_key()
    left = left_file(tmp_path, f"# Keys\n{unused}\n{old}\n{new_key()[:20]}")
    assert file.left() == [left]
    assert file.read() == keys  # nobody but a rekeying touches it
    following = box.next(fingerprint_of(old))
    assert not left.exists()
    read = file.read()
    assert read[1:] == [old, unused]
    assert fingerprint_of(read[0]) == following
    assert f"removed {left}, which a rekeying that was cut off has left: 1 of its" in caplog.text
    assert unused not in caplog.text
    left_file(tmp_path, "")
    box.next(following)
    assert os.listdir(tmp_path) == ["key"]
    assert "it held no other key" in caplog.text


def test_a_key_that_only_such_a_file_holds_is_not_lost(tmp_path: Path) -> None:
    """Such as where the key file was deleted, or put back from a backup, since."""
    old, used = new_key(), new_key()
    sealed = FernetBox(GivenKeys(used, "it")).seal(TOKEN, fingerprint_of(used))
    for there in ([], [old]):
        if there:
            KeyFile(tmp_path / "key").put(there)
        left = left_file(tmp_path, f"{used}\n{old}\n")
        with pytest.raises(MissingKeyError, match=f"but {left} may hold it"):
            FernetBox(KeyFile(tmp_path / "key")).unseal(sealed)
        box = FernetBox(KeyFile(tmp_path / "key"))
        box.next(fingerprint_of(used))
        assert box.unseal(sealed) == TOKEN
        assert FernetBox(KeyFile(tmp_path / "key")).unseal(sealed) == TOKEN
        assert os.listdir(tmp_path) == ["key"]
        (tmp_path / "key").unlink()


def test_what_nobody_of_imgsync_made_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (key,) = KeyFile(tmp_path / "key").make()
    others = [tmp_path / name for name in (".key.bak", ".key.0123", ".other.0123456789abcdef")]
    for one in others:
        one.write_text(new_key())
    (tmp_path / ".key.aaaaaaaaaaaaaaaa").symlink_to(others[0])
    (tmp_path / ".key.bbbbbbbbbbbbbbbb").mkdir()
    before = sorted(os.listdir(tmp_path))
    assert KeyFile(tmp_path / "key").left() == []
    FernetBox(KeyFile(tmp_path / "key")).next(fingerprint_of(key))
    assert sorted(os.listdir(tmp_path)) == before
    assert len(KeyFile(tmp_path / "key").read()) == 2
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_what_another_process_is_just_writing_is_not_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_LOCK_SECONDS", 0.1)
    file = KeyFile(tmp_path / "key")
    (key,) = file.make()
    left = left_file(tmp_path, f"{new_key()}\n{key}\n")
    opened = os.open(tmp_path / "key", os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        for use in (file.take_up, lambda: file.put([new_key()])):
            with pytest.raises(KeyStoreError, match="Another process is writing the key file"):
                use()
        assert left.exists()
    finally:
        os.close(opened)
    file.take_up()
    assert not left.exists()

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    # As of a folder of a server that has none: it cannot be told whose the file is.
    left = left_file(tmp_path, f"{new_key()}\n{key}\n")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    file.put([new_key()])
    file.take_up()
    assert left.exists()


def test_whoever_may_read_the_folder_alone_keeps_nobody_from_rekeying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_LOCK_SECONDS", 0.1)
    file = KeyFile(tmp_path / "key")
    (key,) = file.make()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        file.put([new := new_key()])
    finally:
        os.close(folder)
    assert file.read() == [new, key]


def test_of_two_databases_with_one_key_file_both_keep_their_new_keys(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "key")
    (first,) = file.make()
    start = threading.Barrier(6)
    found = list[str]()

    def put() -> None:
        new = new_key()
        start.wait(30)
        KeyFile(tmp_path / "key").put([new, first])
        found.append(new)

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(file.read()) == {first, *found}
    assert len(found) == 6


KILLED = """
import os, sys
from pathlib import Path
from imgsync.adapters.secrets import keys
from imgsync.adapters.secrets import keys as keys_module
from imgsync.adapters.secrets.box import FernetBox, fingerprint_of
file, step = keys.KeyFile(Path(sys.argv[1])), int(sys.argv[2])
done = 0
def counted(real):
    def call(*given, **named):
        global done
        done += 1
        if done > step:
            os._exit(9)
        return real(*given, **named)
    return call
for of, name in ((os, "open"), (os, "fsync"), (os, "link"), (Path, "replace"), (Path, "unlink"),
                 (os, "fchmod"), (os, "fdopen"), (Path, "mkdir")):
    setattr(of, name, counted(getattr(of, name)))
FernetBox(file).next(fingerprint_of(file.read()[0]))
"""


@pytest.mark.process
def test_killed_at_any_step_of_a_rekeying_every_key_stays(tmp_path: Path) -> None:
    """And no file is left after the next one."""
    made = KeyFile(tmp_path / "key").make()
    has_left, step = 0, 0
    while True:
        # Each takes up what the one before has left, and is killed later than that.
        known = KeyFile(tmp_path / "key").read()
        told = [sys.executable, "-c", KILLED, str(tmp_path / "key"), str(step)]
        status = subprocess.run(told, check=False, timeout=60).returncode
        read = KeyFile(tmp_path / "key").read()
        assert set(known) <= set(read)
        assert made[0] in read
        if status == 0:
            break
        assert status == 9
        has_left += bool(KeyFile(tmp_path / "key").left())
        step += 1
    assert step > 6
    assert has_left > 2
    box = FernetBox(KeyFile(tmp_path / "key"))
    box.next(fingerprint_of(KeyFile(tmp_path / "key").read()[0]))
    assert os.listdir(tmp_path) == ["key"]
