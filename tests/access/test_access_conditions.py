"""ABAC conditions: read, written, evaluated; junk is refused with its position and denies where it is met."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.access import (
    BUILT_IN_ROLES,
    REQUEST_SECRET_NAME,
    SECRET_NAME,
    VAULT_NAME,
    check_condition,
    evaluate_condition,
    secret_names_condition,
)
from keyleaf.access.condition_parser import read_condition
from keyleaf.access.condition_syntax import (
    OPERATORS,
    QUANTIFIERS,
    SOURCES,
    ActionMatches,
    And,
    Attribute,
    Compare,
    Condition,
    Exists,
    Guid,
    Literal,
    Not,
    Or,
    SubOperationMatches,
    write_condition,
)
from keyleaf.core.errors import InputError

GET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
META = "Microsoft.KeyVault/vaults/secrets/readMetadata/action"
SET = "Microsoft.KeyVault/vaults/secrets/setSecret/action"
OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"


def says(condition: str, action: str = GET, **names: str) -> bool:
    known = {"secret": SECRET_NAME, "vault": VAULT_NAME, "requested": REQUEST_SECRET_NAME, "x": "@Resource[x]"}
    return evaluate_condition(condition, action, {known[name]: value for name, value in names.items()}).allowed


# --- Azure's own examples: https://learn.microsoft.com/azure/key-vault/general/rbac-abac ---------------------------
PREFIX = (
    "(\n  !(ActionMatches{'Microsoft.KeyVault/vaults/secrets/getSecret/action'})\n  OR\n  (\n"
    "    @Resource[Microsoft.KeyVault/vaults/secrets:name] StringStartsWith 'test-app'\n  )\n)"
)


def test_prefix_example() -> None:
    assert says(PREFIX, secret="test-app-secret1")
    assert not says(PREFIX, secret="test-db-password")
    assert not says(PREFIX, secret="Test-App-Secret1")
    assert says(PREFIX, action=META)


def test_vault_name_example() -> None:
    condition = "@Resource[Microsoft.KeyVault/vaults:name] StringStartsWith 'kvsyn'"
    assert says(condition, vault="kvsynabaceuap0520", secret="any")
    assert not says(condition, vault="kvdenyabaceuap0520b")


def test_request_attribute_example() -> None:
    condition = (
        "(!(ActionMatches{'Microsoft.KeyVault/vaults/secrets/setSecret/action'}) OR "
        "(@Request[Microsoft.KeyVault/vaults/secrets:name] StringStartsWith 'app-'))"
    )
    assert says(condition, action=SET, requested="app-1")
    assert not says(condition, action=SET, secret="app-1")


def test_delegation_condition_of_the_built_in_role_limits_the_roles() -> None:
    role = BUILT_IN_ROLES["8b54135c-b56d-4d72-a534-26097cfdc8d8"]
    condition = role.permissions[0].condition
    key = "@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId]"
    write = "Microsoft.Authorization/roleAssignments/write"
    assert evaluate_condition(condition, write, {key: OFFICER.upper()}).allowed
    assert not evaluate_condition(condition, write, {key: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"}).allowed
    assert not evaluate_condition(condition, write, {}).allowed
    assert evaluate_condition(condition, "Microsoft.KeyVault/vaults/read", {}).allowed


# --- operators ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("@Resource[x] StringEquals 'a'", "a", True),
        ("@Resource[x] StringEquals 'a'", "A", False),
        ("@Resource[x] StringEqualsIgnoreCase 'a'", "A", True),
        ("@Resource[x] StringNotEquals 'a'", "b", True),
        ("@Resource[x] StringNotStartsWith 'a'", "ab", False),
        ("@Resource[x] StringNotStartsWithIgnoreCase 'A'", "ab", False),
        ("@Resource[x] StringEndsWith 'b'", "ab", True),
        ("@Resource[x] StringNotEndsWith 'b'", "ab", False),
        ("@Resource[x] StringContains 'b'", "abc", True),
        ("@Resource[x] StringNotContains 'B'", "abc", True),
        ("@Resource[x] StringNotContainsIgnoreCase 'B'", "abc", False),
        ("@Resource[x] StringLike 'a*c?'", "abcd", True),
        ("@Resource[x] StringLike 'A*C?'", "abcd", False),
        ("@Resource[x] StringLikeIgnoreCase 'A*C?'", "abcd", True),
        ("@Resource[x] StringLike 'a*c'", "abcd", False),
        ("@Resource[x] StringLike 'a\\*c'", "a*c", True),
        ("@Resource[x] StringLike 'a\\*c'", "abc", False),
        ("@Resource[x] StringLike 'a\\?'", "ab", False),
        ("@Resource[x] StringLike '*'", "", True),
        ("@Resource[x] StringNotLike 'a*'", "abc", False),
        ("@Resource[x] StringEquals 'it\\'s'", "it's", True),
        ("@Resource[x] NumericLessThan 10", "9", True),
        ("@Resource[x] NumericLessThan 10", "10", False),
        ("@Resource[x] NumericGreaterThanEquals 10", "10", True),
        ("@Resource[x] NumericLessThan 10", "nine", False),
        ("@Resource[x] BoolEquals true", "True", True),
        ("@Resource[x] BoolNotEquals true", "true", False),
        (
            "@Resource[x] GuidEquals '00482a5a-887f-4fb3-b363-3b7fe8e74483'",
            "00482A5A-887F-4FB3-B363-3B7FE8E74483",
            True,
        ),
        ("@Resource[x] GuidEquals 00482a5a-887f-4fb3-b363-3b7fe8e74483", "00482a5a-887f-4fb3-b363-3b7fe8e74483", True),
        ("@Resource[x] DateTimeGreaterThan '2026-01-01T00:00:00.0000000Z'", "2026-11-23T15:00:00Z", True),
        ("@Resource[x] DateTimeLessThan '2026-01-01T00:00:00.0Z'", "yesterday", False),
        ("{'red', 'blue'} ForAnyOfAnyValues:StringEquals {'blue', 'green'}", "", True),
        ("{'red', 'blue'} ForAnyOfAnyValues:StringEquals {'orange', 'green'}", "", False),
        ("{'red', 'blue'} ForAllOfAnyValues:StringEquals {'orange', 'red', 'blue'}", "", True),
        ("{'red', 'blue'} ForAllOfAnyValues:StringEquals {'red', 'green'}", "", False),
        ("{10, 20} ForAnyOfAllValues:NumericLessThan {15, 18}", "", True),
        ("{10, 20} ForAllOfAllValues:NumericLessThan {5, 15, 18}", "", False),
        ("{10, 20} ForAllOfAllValues:NumericLessThan {25, 30}", "", True),
        ("{10, 20} ForAllOfAllValues:NumericLessThan {15, 25, 30}", "", False),
        ("Exists @Resource[X]", "", True),
        ("NOT Exists @Resource[X]", "", False),
        ("!Exists @Request[x] && @Resource[x] StringEquals 'a' || @Resource[x] StringEquals 'a'", "a", None),
        ("(!Exists @Request[x] && @Resource[x] StringEquals 'a') || @Resource[x] StringEquals 'b'", "a", True),
        ("SubOperationMatches{'Blob.List'}", "", False),
    ],
)
def test_operators(condition: str, value: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(InputError, match="parentheses"):
            read_condition(condition)
    else:
        assert says(condition, x=value) is expected


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_an_absent_attribute_never_grants_and_neither_does_its_negation(operator: str) -> None:
    value = {"N": "1", "B": "true"}.get(operator[0], "'a'")
    for condition in (f"@Resource[x] {operator} {value}", f"!(@Resource[x] {operator} {value})"):
        assert not says(condition, secret="a")
    assert says(f"@Resource[x] {operator} {value} OR ActionMatches{{'*'}}")


def test_every_negative_operator_is_the_negation_of_its_positive() -> None:
    for operator in OPERATORS:
        if "NotEquals" in operator or operator.startswith("StringNot"):
            positive = operator.replace("Not", "", 1)
            literal = {"N": "1", "B": "true", "D": "'2026-01-01T00:00:00Z'"}.get(operator[0], "'a'")
            for value in ("1", "2", "a", "b", "true", "2026-01-01T00:00:00Z"):
                one, other = (says(f"@Resource[x] {name} {literal}", x=value) for name in (operator, positive))
                incomparable = not one and not other
                assert one != other or incomparable
                assert not incomparable or operator[0] in "NBD"


# --- what is refused ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("condition", "position"),
    [
        ("", 1),
        ("@Resource[x] StringEquals 'a", 27),
        ("@Nowhere[x] StringEquals 'a'", 1),
        ("@Resource[x] StringMatches 'a'", 14),
        ("@Resource[x] Sometimes:StringEquals 'a'", 14),
        ("@Resource[x] StringEquals {'a','b'}", 14),
        ("@Resource[x] StringEquals {}", 28),
        ("(@Resource[x] StringEquals 'a'", 31),
        ("@Resource[x] StringEquals 'a')", 30),
        ("ActionMatches{a}", 15),
        ("Exists 'a'", 8),
        ("@Resource[x] and @Resource[y]", 14),
        ("@Resource[x] StringEquals 'a' # no", 31),
    ],
)
def test_what_does_not_parse_is_refused_with_its_position(condition: str, position: int) -> None:
    with pytest.raises(InputError, match=rf"position {position}\b"):
        check_condition(condition, "2.0")
    assert not says(condition, x="a")


@pytest.mark.parametrize("version", [None, "", "1.0", "3.0"])
def test_only_version_2_is_taken(version: str | None) -> None:
    with pytest.raises(InputError, match="conditionVersion"):
        check_condition(PREFIX, version)


@pytest.mark.parametrize("text", ["(" * 5000, "!" * 5000 + "ActionMatches{'a'}", "x" * 9000, "!(" * 4000])
def test_deep_or_long_conditions_are_refused_without_a_crash(text: str) -> None:
    with pytest.raises(InputError):
        read_condition(text)


@settings(max_examples=400)
@given(st.text(alphabet="@Resource[]x 'a(){}!&|,12StringEqualsANDOR\\:\n", max_size=60) | st.text(max_size=40))
def test_junk_never_crashes(text: str) -> None:
    try:
        read_condition(text)
    except InputError as error:
        assert "position" in error.message
    evaluate_condition(text, GET, {SECRET_NAME: "a"})


# --- random trees ---------------------------------------------------------------------------------------------------
TEXTS = st.text(alphabet="ab*?'\\ (){}@-", max_size=6).filter(lambda text: not text.endswith("\\"))
ATTRIBUTES = st.builds(Attribute, st.sampled_from(sorted(SOURCES)), st.sampled_from(["x", "A/b:name", "t:Key<$k$>"]))
VALUES = st.one_of(TEXTS, st.integers(-999, 999), st.booleans(), st.just(Guid(OFFICER)))
ONE = st.builds(lambda value: Literal((value,)), VALUES)
MANY = st.builds(lambda values: Literal(tuple(values), True), st.lists(VALUES, min_size=1, max_size=3))
COMPARES = st.one_of(
    st.builds(Compare, ATTRIBUTES | ONE, st.sampled_from(sorted(OPERATORS)), ATTRIBUTES | ONE),
    st.builds(
        Compare,
        ATTRIBUTES | ONE | MANY,
        st.sampled_from(sorted(OPERATORS)),
        ATTRIBUTES | ONE | MANY,
        st.sampled_from(sorted(QUANTIFIERS)),
    ),
)
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(ActionMatches, TEXTS), st.builds(SubOperationMatches, TEXTS), st.builds(Exists, ATTRIBUTES), COMPARES
)
TREES: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda operands: And(tuple(operands)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda operands: Or(tuple(operands)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(TREES, st.dictionaries(st.sampled_from(["@Resource[x]", "@request[a/B:Name]"]), TEXTS, max_size=2))
def test_a_tree_that_is_written_reads_back_as_itself_and_can_be_evaluated(
    tree: Condition, attributes: dict[str, str]
) -> None:
    text = write_condition(tree)
    assert read_condition(text) == tree
    verdict = evaluate_condition(text, GET, attributes)
    assert verdict.allowed == (verdict.clause == "")


# --- the conditions that keyleaf writes -------------------------------------------------------------------------------
NAMES = st.from_regex(r"[0-9a-zA-Z-]{1,20}", fullmatch=True)


@given(st.sets(NAMES, min_size=1, max_size=8), NAMES, st.sampled_from([None, "kv-shop"]), st.sampled_from([GET, META]))
def test_secret_names_condition_leaves_exactly_those_names(
    names: set[str], other: str, vault: str | None, action: str
) -> None:
    condition = secret_names_condition(names, vault)
    check_condition(condition, "2.0")
    for name in names | {other}:
        assert says(condition, action, secret=name, vault="kv-shop") is (name in names)
        assert says(condition, action, secret=name, vault="kv-else") is (name in names and vault is None)
    assert not says(condition, action, vault="kv-shop")
    assert says(condition, SET, requested=other, vault="kv-shop")


def test_secret_names_condition_names_the_clause_that_was_not_met() -> None:
    verdict = evaluate_condition(secret_names_condition(["a"]), GET, {SECRET_NAME: "b"})
    assert verdict.clause == "@Resource[Microsoft.KeyVault/vaults/secrets:name] StringEquals 'a'"


@pytest.mark.parametrize("names", [[], ["a b"], ["it's"], [f"secret-{i:0100}" for i in range(90)]])
def test_secret_names_condition_refuses_what_azure_would(names: list[str]) -> None:
    with pytest.raises(InputError):
        secret_names_condition(names)
