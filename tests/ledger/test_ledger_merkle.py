"""RFC 6962: known vectors, and what holds for every tree."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.ledger.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The example entries of the Certificate Transparency project, and the roots of the trees over the first 1 … 8 of them.
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]

trees = st.lists(st.binary(max_size=8).map(leaf_hash), min_size=1, max_size=70)


def slow_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962, section 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


def test_known_roots() -> None:
    assert root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [root_of(LEAVES[: n + 1]).hex() for n in range(8)] == ROOTS


def test_known_proofs() -> None:
    assert inclusion_proof(LEAVES[:1], 0) == []
    assert [step.hex() for step in inclusion_proof(LEAVES, 5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [step.hex() for step in consistency_proof(LEAVES, 6)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(trees)
def test_growing_gives_the_root_of_the_definition(leaves: list[bytes]) -> None:
    frontier = Frontier()
    for size, leaf in enumerate(leaves, start=1):
        frontier.append(leaf)
        assert frontier.size == size
        assert frontier.root() == slow_root(leaves[:size])
        again = Frontier.parse(size, frontier.packed())
        assert again.root() == frontier.root()
        assert again.hashes == frontier.hashes


@given(trees, st.data())
def test_inclusion_is_shown_and_nothing_else_is(leaves: list[bytes], data: st.DataObject) -> None:
    size, root = len(leaves), slow_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(leaves, index)
    assert verify_inclusion(leaves[index], index, size, proof, root)
    stranger = sha256(b"stranger").digest()
    assert not verify_inclusion(stranger, index, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, proof, stranger)
    assert not verify_inclusion(leaves[index], index, size, [*proof, stranger], root)
    assert not verify_inclusion(leaves[index], size, size, proof, root)
    assert not verify_inclusion(leaves[index], -1, size, proof, root)
    for place in range(len(proof)):
        assert not verify_inclusion(leaves[index], index, size, [*proof[:place], *proof[place + 1 :]], root)
        flipped = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        assert not verify_inclusion(leaves[index], index, size, [*proof[:place], flipped, *proof[place + 1 :]], root)
    other = data.draw(st.integers(0, size - 1))
    if leaves[other] != leaves[index]:
        assert not verify_inclusion(leaves[other], index, size, proof, root)


@given(trees, st.data())
def test_consistency_is_shown_and_nothing_else_is(leaves: list[bytes], data: st.DataObject) -> None:
    size, root = len(leaves), slow_root(leaves)
    old_size = data.draw(st.integers(1, size))
    old_root = slow_root(leaves[:old_size])
    proof = consistency_proof(leaves, old_size)
    assert verify_consistency(old_size, size, proof, old_root, root)
    stranger = sha256(b"stranger").digest()
    assert not verify_consistency(old_size, size, proof, stranger, root)
    assert not verify_consistency(old_size, size, proof, old_root, stranger)
    assert not verify_consistency(old_size, size, [*proof, stranger], old_root, root)
    assert not verify_consistency(0, size, proof, old_root, root)
    assert not verify_consistency(size + 1, size, proof, old_root, root)
    for place in range(len(proof)):
        assert not verify_consistency(old_size, size, [*proof[:place], *proof[place + 1 :]], old_root, root)
        flipped = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        assert not verify_consistency(old_size, size, [*proof[:place], flipped, *proof[place + 1 :]], old_root, root)


@given(trees, st.data())
def test_a_rewritten_past_is_not_consistent(leaves: list[bytes], data: st.DataObject) -> None:
    old_size = data.draw(st.integers(1, len(leaves)))
    place = data.draw(st.integers(0, old_size - 1))
    rewritten = [*leaves[:place], sha256(b"rewritten").digest(), *leaves[place + 1 :]]
    proof = consistency_proof(rewritten, old_size)
    assert not verify_consistency(old_size, len(leaves), proof, slow_root(leaves[:old_size]), slow_root(rewritten))


def test_a_leaf_is_no_node() -> None:
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize(("size", "packed"), [(1, b""), (0, bytes(32)), (3, bytes(32)), (1, bytes(31)), (-1, b"")])
def test_a_frontier_that_does_not_fit_its_size(size: int, packed: bytes) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Frontier.parse(size, packed)


def test_no_such_leaf_or_tree() -> None:
    for index in (-1, 8):
        with pytest.raises(ValueError, match="no such leaf"):
            inclusion_proof(LEAVES, index)
    for old_size in (0, 9):
        with pytest.raises(ValueError, match="no such tree"):
            consistency_proof(LEAVES, old_size)
