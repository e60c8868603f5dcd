"""Lists: every page, in any size, while others change what is listed."""

from __future__ import annotations

import base64
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vault_room import BASE, Room, query_of, refusal, version_of

from keyleaf.core.errors import ServiceError

ON_ONE_ROOM = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = count()
NAMES = st.sampled_from([f"{letter}{rest}" for letter in "aBc-9" for rest in ("", "-1", "1", "Z", "-")])


def name_of(bundle: dict[str, str]) -> str:
    return bundle["id"].split("/secrets/")[1]


@pytest.fixture
def filled(room: Room) -> Room:
    for number in range(30):
        room.set(f"s{number:02}", "1")
        room.set(f"s{number:02}", "2")
    return room


def test_pages_hold_at_most_what_was_asked_for_and_25_unless_asked(filled: Room) -> None:
    first = filled.call("GET", "/secrets")
    assert len(first["value"]) == 25
    for size in (1, 7, 24, 25):
        pages = filled.pages("/secrets", size)
        assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
        assert [name_of(one) for page in pages for one in page] == [f"s{number:02}" for number in range(30)]


def test_the_last_page_has_no_link_even_when_it_is_full(filled: Room) -> None:
    assert [len(page) for page in filled.pages("/secrets", 15)] == [15, 15]
    assert [len(page) for page in filled.pages("/secrets", 10)] == [10, 10, 10]
    assert filled.call("GET", "/deletedsecrets") == {"value": [], "nextLink": None}


def test_a_link_repeats_the_question(filled: Room) -> None:
    link = filled.call("GET", "/secrets", maxresults="4")["nextLink"]
    assert link.startswith(f"{BASE}/secrets?api-version=2026-04-01&$skiptoken=")
    assert link.endswith("&maxresults=4")
    assert "maxresults" not in query_of(filled.call("GET", "/secrets")["nextLink"])


def test_versions_and_deleted_secrets_have_pages_too(filled: Room) -> None:
    made = [version_of(filled.set("many", str(number))) for number in range(9)]
    pages = filled.pages("/secrets/MANY/versions", 4)
    assert [len(page) for page in pages] == [4, 4, 1]
    assert [version_of(one) for page in pages for one in page] == made
    for number in range(30):
        filled.call("DELETE", f"/secrets/s{number:02}")
    pages = filled.pages("/deletedsecrets", 8)
    assert [name_of(one) for page in pages for one in page] == [f"s{number:02}" for number in range(30)]


def test_versions_of_what_is_not_there_are_an_empty_list(room: Room) -> None:
    assert room.call("GET", "/secrets/none/versions") == {"value": [], "nextLink": None}


@ON_ONE_ROOM
@given(
    before=st.sets(NAMES, min_size=1),
    size=st.integers(1, 4),
    changes=st.lists(st.tuples(st.sampled_from(["set", "delete"]), NAMES), max_size=8),
)
def test_what_is_there_all_the_time_is_listed_exactly_once(
    room: Room, before: set[str], size: int, changes: list[tuple[str, str]]
) -> None:
    vault = room.add_vault(f"kv-paging-{next(NUMBERS)}").name
    spelled = {name.lower(): name for name in sorted(before)}
    for name in spelled.values():
        room.set(name, "v", vault)
    touched: set[str] = set()
    ever = set(spelled)
    seen: list[str] = []
    query = {"maxresults": str(size)}
    waiting = list(changes)
    while True:
        page = room.call("GET", "/secrets", None, vault, **query)
        seen += [name_of(one).lower() for one in page["value"]]
        if waiting:
            kind, name = waiting.pop(0)
            try:
                if kind == "set":
                    room.set(name, "w", vault)
                    ever.add(name.lower())
                else:
                    room.call("DELETE", f"/secrets/{name}", None, vault)
                    touched.add(name.lower())
            except ServiceError as error:
                assert error.status in (404, 409)
        if not page["nextLink"]:
            break
        query = query_of(page["nextLink"])
    assert len(seen) == len(set(seen)), "nothing twice"
    assert set(spelled) - touched <= set(seen), "nothing left out"
    assert set(seen) <= ever, "nothing that never was"


LISTS = ("/secrets", "/deletedsecrets", "/secrets/a/versions")
BAD_SIZES = ("0", "26", "-1", "", "x", "1e1", " 5", "+5", "5.0", "٥", "9" * 400)


def test_a_page_size_out_of_range_is_refused(room: Room) -> None:
    for path in LISTS:
        for size in BAD_SIZES:
            with pytest.raises(ServiceError) as caught:
                room.call("GET", path, maxresults=size)
            assert refusal(caught.value) == (400, "BadParameter", ""), (path, size)


def forged(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_a_page_token_that_was_not_given_out_is_refused(room: Room) -> None:
    room.set("a", "v")
    texts = ("s01", "after:", "after:\x00", "after:' OR 1=1 --", "after:" + "a" * 128)
    for path in LISTS:
        for token in ("x", "====", "ä", *map(forged, texts)):
            with pytest.raises(ServiceError) as caught:
                room.call("GET", path, **{"$skiptoken": token})
            assert refusal(caught.value) == (400, "BadParameter", ""), (path, token)


@ON_ONE_ROOM
@given(st.text(max_size=30) | st.text(max_size=12).map(lambda text: forged("after:" + text)))
def test_no_page_token_is_a_fault(room: Room, token: str) -> None:
    for path in ("/secrets", "/secrets/a/versions"):
        try:
            room.call("GET", path, **{"$skiptoken": token})
        except ServiceError as error:
            assert error.status == 400
