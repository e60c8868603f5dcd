"""A tree's repository, from whatever a person names it by."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from keyleaf.core.errors import InputError
from keyleaf.tree.files import DirectoryFiles, FileSet
from keyleaf.tree.git import GitFiles, GitSource, commit_of, is_bare, is_remote, remote_urls, toplevel
from keyleaf.tree.repository import Repository, normal_url


def open_repository(
    root: str | Path | FileSet, revision: str = "", fetch: GitSource | None = None, label: str = ""
) -> Repository:
    """Open a directory, a local repository or a remote one.

    A directory without ``revision`` is read as it stands, unsaved commits included; with one, and for bare
    repositories, that commit is read. ``https://host/repo.git//folder`` asks for a folder of a remote one.

    Raises:
        InputError: there is no such place or revision.
        RemoteError: a remote repository did not answer.
    """
    if not isinstance(root, str | Path):
        return Repository(root, label=label)
    name = str(root)
    if isinstance(root, str) and is_remote(name):
        url, folder = _folder_of(name)
        files: FileSet = (fetch or GitSource()).open(url, revision)
        assert isinstance(files, GitFiles)
        return Repository(files, folder, label, frozenset({normal_url(url)}), files.commit)
    urls = {normal_url(name)} if name.startswith("file://") else set()
    folder_path = Path(unquote(urlsplit(name).path)) if name.startswith("file://") else Path(name)
    if folder_path.is_file():
        raise InputError(f"{name} is a file", hint="name the folder that holds the tree")
    if not folder_path.is_dir():
        raise InputError(f"{name} does not exist", hint="name a folder, or the address of a Git repository")
    folder_path = folder_path.resolve()
    top = toplevel(folder_path)
    if top is None and is_bare(folder_path):
        commit = commit_of(folder_path, revision or "HEAD")
        urls |= {normal_url(url) for url in remote_urls(folder_path)} | {normal_url(str(folder_path))}
        return Repository(GitFiles(folder_path, commit), "", label, frozenset(urls), commit)
    if top is None:
        if revision:
            raise InputError(
                f"{name} is no Git repository, and has no revision {revision!r}", hint="leave out --revision"
            )
        return Repository(DirectoryFiles(folder_path), "", label, frozenset(urls))
    top = top.resolve()
    base = folder_path.relative_to(top).as_posix()
    base = "" if base == "." else base
    urls |= {normal_url(url) for url in remote_urls(top)} | {normal_url(str(top)), normal_url(f"file://{top}")}
    if revision:
        commit = commit_of(top, revision)
        return Repository(GitFiles(top, commit), base, label, frozenset(urls), commit)
    return Repository(DirectoryFiles(top), base, label, frozenset(urls))


def _folder_of(url: str) -> tuple[str, str]:
    scheme, mark, rest = url.partition("://")
    address, parted, folder = rest.partition("//")
    return (f"{scheme}{mark}{address}", folder.strip("/")) if mark and parted else (url, "")
