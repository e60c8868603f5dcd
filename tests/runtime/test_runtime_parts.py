"""The small parts: atomic volumes, backoff, schedules, ports, logs, tokens, decoding."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.core.errors import InputError, RemoteError
from keyleaf.runtime import ManualTimer, ServiceAccountIssuer, TokenKeeper, private_directory
from keyleaf.runtime.backoff import Backoff
from keyleaf.runtime.fetching import decoded
from keyleaf.runtime.logs import LogFile
from keyleaf.runtime.materialise import write_volume
from keyleaf.runtime.ports import PortBook
from keyleaf.runtime.schedule import next_run
from keyleaf.runtime.values import VaultValue

NAMES = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True)
SETS = st.dictionaries(NAMES, st.tuples(st.binary(max_size=8), st.sampled_from([0o400, 0o440])), max_size=4).filter(
    lambda files: not any(a.startswith(f"{b}/") for a in files for b in files)
)


@given(st.lists(SETS, min_size=1, max_size=4))
def test_a_volume_holds_the_last_set_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, sets: list) -> None:  # type: ignore[type-arg]
    directory = tmp_path_factory.mktemp("volume")
    for files in sets:
        write_volume(directory, files)
        seen = {
            str(file.relative_to(directory)): file.read_bytes()
            for top in directory.iterdir()
            if not top.name.startswith("..")
            for file in ([top] if top.is_file() else top.rglob("*"))
            if file.is_file()
        }
        assert seen == {name: content for name, (content, _) in files.items()}
        assert len([entry for entry in directory.iterdir() if entry.name.startswith("..")]) == 2
        assert not write_volume(directory, files)


def test_a_reader_of_an_old_set_keeps_it(tmp_path: Path) -> None:
    write_volume(tmp_path, {"a": (b"1", 0o400), "b": (b"1", 0o400)})
    with (tmp_path / "a").open("rb") as held:
        write_volume(tmp_path, {"a": (b"2", 0o400), "b": (b"2", 0o400)})
        assert held.read() == b"1"
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"2"
    assert (tmp_path / "a").readlink() == Path("..data/a")


@given(st.lists(st.floats(0, 59), min_size=1, max_size=40))
def test_backoff_doubles_up_to_its_limit(runs: list[float]) -> None:
    backoff = Backoff()
    waits = [backoff.after(ran) for ran in runs]
    assert waits == [min(60.0, 0.5 * 2**n) for n in range(len(runs))]
    assert backoff.after(60) == 0.5


@pytest.mark.parametrize(
    ("schedule", "zone", "expected"),
    [
        ("*/5 * * * *", "", 1_700_000_100),
        ("@hourly", "", 1_700_002_800),
        ("0 3 * * *", "Europe/Berlin", 1_700_013_600),
    ],
)
def test_schedules(schedule: str, zone: str, expected: int) -> None:
    assert next_run(schedule, zone, 1_700_000_000) == expected


@pytest.mark.parametrize(
    ("schedule", "zone"), [("x", ""), ("* * * * * *", ""), ("* * * * *", "Nowhere"), ("0 0 31 2 *", "")]
)
def test_what_is_no_schedule(schedule: str, zone: str) -> None:
    with pytest.raises(InputError):
        next_run(schedule, zone, 0)


def test_ports_stay_and_do_not_clash(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        book = PortBook(tmp_path / "ports.json")
        first = book.assign("a#0", number)
        second = book.assign("b#0", number)
        assert len({first, second, number}) == 3
    assert PortBook(tmp_path / "ports.json").assign("a#0", number) == first
    assert book.assign("c#0", 80) >= 1024
    book.forget_all_but({"b#0"})
    assert PortBook(tmp_path / "ports.json").assign("b#0", number) == second


def test_logs_rotate_by_size(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "app.log", limit=100, keep=2)
    for number in range(40):
        log.write("web-0", f"line {number}".encode())
    log.close()
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["app.log", "app.log.1", "app.log.2"]
    assert all(file.stat().st_size <= 120 and file.stat().st_mode & 0o777 == 0o600 for file in tmp_path.iterdir())
    assert log.recent[-1] == "line 39"


def test_tokens_are_renewed_before_they_expire(tmp_path: Path) -> None:
    timer = ManualTimer()
    keeper = TokenKeeper(ServiceAccountIssuer.open(tmp_path / "oidc", "https://127.0.0.1:1"), timer)
    file = tmp_path / "token"
    keeper.project(file, "shop", "web", lifetime=1000)
    first = file.read_text()
    assert keeper.renew_due() == 0
    timer._passed += 700
    assert keeper.renew_due() == 1
    assert file.read_text() != first
    keeper.forget(tmp_path)
    timer._passed += 7000
    assert keeper.renew_due() == 0


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = private_directory(tmp_path / "state")
    assert place.parent == tmp_path
    assert place.stat().st_mode & 0o777 == 0o700
    place.rmdir()
    place.symlink_to(tmp_path)
    assert private_directory(tmp_path / "state").parent != tmp_path


def test_values_are_decoded_as_declared() -> None:
    plain = VaultValue("shop", "web", "kv", "s")
    assert decoded(plain, "x") == b"x"
    assert decoded(VaultValue("shop", "web", "kv", "s", property="a"), '{"a": "1", "b": 2}') == b"1"
    assert decoded(VaultValue("shop", "web", "kv", "s", property="b"), '{"a": "1", "b": 2}') == b"2"
    assert decoded(VaultValue("shop", "web", "kv", "s", encoding="base64"), "eA==") == b"x"
    assert decoded(VaultValue("shop", "web", "kv", "s", encoding="hex"), "78") == b"x"


@pytest.mark.parametrize(
    "value",
    [
        VaultValue("shop", "web", "kv", "s", encoding="base64"),
        VaultValue("shop", "web", "kv", "s", encoding="hex"),
        VaultValue("shop", "web", "kv", "s", property="a"),
    ],
)
def test_a_value_that_does_not_fit_is_not_shown(value: VaultValue) -> None:
    with pytest.raises(RemoteError) as caught:
        decoded(value, "hunter2 is no such thing!")
    assert "hunter2" not in str(caught.value)
