"""``$(VAR)``, mount paths and addresses in the text of manifests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.runtime.expansion import expand, references, replace_addresses, replace_paths

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True)
VARIABLES = st.dictionaries(NAMES, st.text(max_size=8), max_size=4)


# The table is that of Kubernetes' own documentation and of its third_party/forked/golang/expansion.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(VAR)", "value"),
        ("___$(VAR)___", "___value___"),
        ("$(VAR)$(VAR)", "valuevalue"),
        ("$(OTHER)", "$(OTHER)"),
        ("$$(VAR)", "$(VAR)"),
        ("$$$(VAR)", "$value"),
        ("$$$$(VAR)", "$$(VAR)"),
        ("$VAR", "$VAR"),
        ("$(VAR", "$(VAR"),
        ("$", "$"),
        ("$$", "$"),
        ("a$", "a$"),
        ("$()", "$()"),
        ("$(VAR)$", "value$"),
        ("\\$(VAR)", "\\value"),
        ("${VAR}", "${VAR}"),
    ],
)
def test_expansion_is_that_of_kubernetes(text: str, expected: str) -> None:
    assert expand(text, {"VAR": "value"}) == expected


@given(st.text(alphabet=st.characters(exclude_characters="$")), VARIABLES)
def test_text_without_a_dollar_stays(text: str, variables: dict[str, str]) -> None:
    assert expand(text, variables) == text


@given(st.text(max_size=30), VARIABLES)
def test_doubling_every_dollar_keeps_the_text(text: str, variables: dict[str, str]) -> None:
    assert expand(text.replace("$", "$$"), variables) == text


@given(st.lists(st.one_of(st.text(alphabet="ab c", max_size=4), NAMES.map(lambda n: f"$({n})"))), VARIABLES)
def test_values_are_never_expanded_again(parts: list[str], variables: dict[str, str]) -> None:
    expected = "".join(
        variables.get(m[1], part) if (m := re.fullmatch(r"\$\((\w+)\)", part)) else part for part in parts
    )
    assert expand("".join(parts), variables) == expected


@given(st.text(alphabet="$()AB ", max_size=20))
def test_references_are_what_is_asked_for(text: str) -> None:
    named = references(text)
    assert expand(text, dict.fromkeys(named, "")) == expand(text, {**dict.fromkeys(named, ""), "OTHER": "x"})
    if not named:
        assert expand(text, {"A": "1", "B": "2", "AB": "3"}) == expand(text, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/mnt/keys", "/run/keys"),
        ("/mnt/keys/api", "/run/keys/api"),
        ("--file=/mnt/keys/api", "--file=/run/keys/api"),
        ("/a:/mnt/keys:/b", "/a:/run/keys:/b"),
        ("/mnt/keys-old/api", "/mnt/keys-old/api"),
        ("/var/mnt/keys", "/var/mnt/keys"),
        ("https://host/mnt/keys", "https://host/mnt/keys"),
        ("/mnt/keys/inner/x", "/run/inner/x"),
        ("file:///mnt/keys", "file:///mnt/keys"),
    ],
)
def test_mount_paths(text: str, expected: str) -> None:
    assert replace_paths(text, {"/mnt/keys": "/run/keys", "/mnt/keys/inner": "/run/inner"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://pay.shop.svc:80/x", "http://127.0.0.1:4001/x"),
        ("http://pay.shop.svc/x", "http://127.0.0.1:4001/x"),
        ("http://pay.shop.svc:8080", "http://pay.shop.svc:8080"),
        ("http://notpay.shop.svc", "http://notpay.shop.svc"),
        ("http://pay.shop.svc.cluster.local", "http://pay.shop.svc.cluster.local"),
        ("HTTP://PAY.SHOP.SVC", "HTTP://127.0.0.1:4001"),
        ("see pay.shop.svc.", "see 127.0.0.1:4001."),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    known = [("pay.shop.svc:80", "127.0.0.1:4001"), ("pay.shop.svc", "127.0.0.1:4001")]
    assert replace_addresses(text, known) == expected


@given(st.text(max_size=40))
def test_nothing_known_changes_nothing(text: str) -> None:
    assert replace_paths(text, {}) == text
    assert replace_addresses(text, []) == text
