"""Real Git repositories: revisions, bare ones, remote ones, and what a hostile one cannot do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tree_samples import REPOSITORY, application, commit, config_map, git

from keyleaf.core.errors import InputError, RemoteError
from keyleaf.tree import GitSource, Tools, read_tree
from keyleaf.tree.files import DirectoryFiles
from keyleaf.tree.git import GitFiles, is_remote
from keyleaf.tree.repository import normal_url, without_credentials

NO_TOOLS = Tools(path="")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    commit(folder, {"root.yaml": application("root", "x"), "x/c.yaml": config_map("one")})
    return folder


def names(root: str | Path, revision: str = "", **more: object) -> list[str]:
    tree = read_tree(root, revision, tools=NO_TOOLS, **more)  # type: ignore[arg-type]
    return [one.name for one in tree.of("root")]


def test_a_working_directory_is_read_as_it_stands_and_a_revision_as_it_was(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-a", "v1", "-m", "one")
    git(repository, "branch", "old")
    second = commit(repository, {"x/c.yaml": config_map("two")})
    (repository / "x/c.yaml").write_text(config_map("saved"))
    assert names(repository) == ["saved"]
    assert names(repository, "main") == names(repository, "HEAD") == names(repository, second) == ["two"]
    assert names(repository, "v1") == names(repository, "old") == names(repository, first[:10]) == ["one"]
    assert read_tree(repository, "v1").revision == first
    assert read_tree(repository).revision == ""


def test_a_folder_of_a_repository_is_read_at_a_revision_too(repository: Path) -> None:
    commit(
        repository,
        {
            "shop/root.yaml": application("root", "y"),
            "shop/y/c.yaml": config_map("inner"),
            "y/c.yaml": config_map("outer"),
        },
    )
    assert names(repository / "shop") == names(repository / "shop", "main") == ["inner"]
    tree = read_tree(repository / "shop", "main")
    assert str(tree.applications["root"].where) == "root.yaml:1"


def test_paths_from_the_top_work_from_a_folder(repository: Path) -> None:
    commit(repository, {"shop/root.yaml": application("root", "lib"), "lib/c.yaml": config_map("shared")})
    tree = read_tree(repository / "shop", tools=NO_TOOLS)
    assert [(one.name, str(one.where)) for one in tree.of("root")] == [("shared", "../lib/c.yaml:1")]


def test_bare_repositories_and_file_addresses(repository: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(bare))
    assert names(bare) == names(f"file://{bare}") == names(f"file://{repository}", "main") == ["one"]


def test_an_unknown_revision_is_an_error(repository: Path) -> None:
    for revision in ("nowhere", "--output=x", "-h", "main\0"):
        with pytest.raises(InputError):
            read_tree(repository, revision)


def test_remote_repositories_are_fetched_shallow_and_again(repository: Path, tmp_path: Path) -> None:
    source = GitSource(tmp_path / "cache")
    address = f"file://{repository}"
    first = source.open(address, "main")
    assert first.read("x/c.yaml").decode() == config_map("one")
    new = commit(repository, {"x/c.yaml": config_map("two")})
    second = source.open(address)
    assert (second.commit, second.read("x/c.yaml").decode()) == (new, config_map("two"))
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert git(second.repository, "rev-list", "--count", "refs/keyleaf/wanted") == "1"
    with pytest.raises(RemoteError, match="nowhere"):
        source.open(address, "nowhere")
    first.close()
    second.close()


def test_other_repositories_are_fetched_when_asked(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    commit(other, {"deep/c.yaml": config_map("far")})
    text = application("root", "deep").replace(REPOSITORY, f"file://{other}")
    commit(repository, {"root.yaml": text})
    assert names(repository) == []
    assert names(repository, fetch=GitSource(tmp_path / "cache")) == ["far"]


@pytest.mark.parametrize(
    "address", ["ext::sh -c touch% x", "http://example.com/x", "git://example.com/x", "-oProxy=x", "--upload-pack=x"]
)
def test_addresses_that_run_programs_or_have_no_secrecy_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="not fetched"):
        GitSource(tmp_path / "cache").open(address)
    assert not (tmp_path / "cache").exists()


def test_passwords_in_addresses_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(RemoteError) as caught:
        GitSource(tmp_path / "cache").open("https://someone:hunter2@127.0.0.1:9/repo.git")
    assert "hunter2" not in str(caught.value)
    assert without_credentials("https://someone:hunter2@host/x") == "https://host/x"


def test_nothing_of_a_repository_is_run(repository: Path, tmp_path: Path) -> None:
    """Hooks, file system monitors, filters, pagers and aliases in the repository's own configuration stay silent."""
    alarm = tmp_path / "alarm"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {alarm}\ncat\n")
    program.chmod(0o755)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (repository / ".git/hooks" / hook).write_text(program.read_text())
        (repository / ".git/hooks" / hook).chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "filter.x.smudge", "core.askPass", "alias.cat-file"):
        git(repository, "config", key, str(program))
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/attributes").write_text("*.yaml filter=x\n")
    alarm.unlink(missing_ok=True)
    assert names(repository) == names(repository, "main") == ["one"]
    assert not alarm.exists()


def test_the_environment_cannot_redirect_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    commit(elsewhere, {"root.yaml": application("root", "x"), "x/c.yaml": config_map("wrong")})
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere))
    assert names(repository, "main") == ["one"]


def test_missing_objects_are_not_fetched_behind_ones_back(repository: Path) -> None:
    commit_id = git(repository, "rev-parse", "HEAD")
    blob = git(repository, "rev-parse", "HEAD:x/c.yaml")
    loose = repository / ".git/objects" / blob[:2] / blob[2:]
    loose.parent.chmod(0o755)
    loose.unlink()
    tree = read_tree(repository, commit_id, tools=NO_TOOLS)
    assert [(one.code, one.owner) for one in tree.findings] == [("file-unreadable", "root")]


def test_links_in_commits(repository: Path) -> None:
    (repository / "x/in.yaml").symlink_to("../common.yaml")
    (repository / "x/twice.yaml").symlink_to("in.yaml")
    (repository / "x/out.yaml").symlink_to("../../outside.yaml")
    (repository / "x/root.yaml").symlink_to("/etc/passwd")
    (repository / "x/loop.yaml").symlink_to("loop.yaml")
    commit(repository, {"common.yaml": config_map("common")})
    tree = read_tree(repository, "main", tools=NO_TOOLS)
    assert {one.name for one in tree.of("root")} == {"one", "common"}
    leaving = [str(one.where) for one in tree.findings if one.code == "link-leaves-tree"]
    assert leaving == ["x/out.yaml", "x/root.yaml"]


def test_a_commit_and_its_checkout_hold_the_same(repository: Path) -> None:
    commit(repository, {"ä ö/c.yaml": config_map("two"), "x/$(touch y).yaml": config_map("three")})
    head = GitFiles(repository, git(repository, "rev-parse", "HEAD"))
    disk = DirectoryFiles(repository)
    assert list(head.list()) == list(disk.list())
    assert all(head.read(path) == disk.read(path) for path in disk.list())
    with pytest.raises(InputError):
        head.read("absent")
    with pytest.raises(InputError):
        disk.read("../repo/../secret")
    head.close()
    assert head.read("x/c.yaml")
    head.close()


@pytest.mark.parametrize(
    "spelling",
    [
        "https://git.example.com/Shop/tree.git",
        "https://git.example.com/shop/tree",
        "git@git.example.com:shop/tree.git",
        "ssh://git@git.example.com:22/shop/tree/",
        "https://user:word@GIT.example.com/shop/tree.git",
    ],
)
def test_spellings_of_one_address_are_one(spelling: str) -> None:
    assert normal_url(spelling) == "git.example.com/shop/tree"


def test_what_is_remote(tmp_path: Path) -> None:
    assert is_remote("https://example.com/x") and is_remote("git@example.com:x/y") and is_remote("ssh://example.com/x")
    assert not is_remote(str(tmp_path)) and not is_remote("./a:b") and not is_remote("file:///x")


def test_a_remote_of_the_repository_names_it(repository: Path) -> None:
    """Nothing at the root names a path of this repository, so only the remote tells that it is meant."""
    git(repository, "remote", "add", "origin", "git@git.example.com:shop/tree.git")
    commit(repository, {"root.yaml": application("root", "missing")})
    assert [one.code for one in read_tree(repository, tools=NO_TOOLS).findings] == ["source-path-missing"]


def test_processes_end_with_the_reading(repository: Path) -> None:
    read_tree(repository, "main")
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True).stdout
    assert "cat-file" not in children
