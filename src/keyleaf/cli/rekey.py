"""``keyleaf rekey``: change the root key, and where it comes from."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from keyleaf.cli.serve import STATE_HELP, state_directory
from keyleaf.core.errors import InputError

_PROVIDERS = ("file", "env", "passphrase")
_NEXT = {
    "file": "The new key is in {key_file}: back it up.",
    "env": "From now on KEYLEAF_ROOT_KEY has to hold the new key.",
    "passphrase": "From now on KEYLEAF_PASSPHRASE, or the prompt, has to give the new passphrase.",
}


def rekey(
    state: Annotated[Path | None, typer.Option(help=STATE_HELP)] = None,
    database_url: Annotated[
        str, typer.Option(envvar="KEYLEAF_DATABASE_URL", help="postgresql://…; default SQLite in the state directory.")
    ] = "",
    to: Annotated[
        str, typer.Option(help="Where the new key comes from: file, env or passphrase; default as before.")
    ] = "",
) -> None:
    """Change the root key. No server may be running.

    The old key comes from where it always does; a new key from KEYLEAF_NEW_ROOT_KEY (env), KEYLEAF_NEW_PASSPHRASE or a
    prompt (passphrase), or is made (file). Copies of the database from before still open with the old key.
    """
    if to and to not in _PROVIDERS:
        raise InputError(f"--to {to} is not a provider", hint="file, env or passphrase")
    root = state_directory(state)
    if not root.is_dir():
        raise InputError(f"{root} is not a state directory", hint="give --state")
    from keyleaf.core.clock import SystemRandomness
    from keyleaf.store import Database, StateDirectory, StateLock, sqlite_url
    from keyleaf.store.rekeying import rekey as change_root_key
    from keyleaf.store.rootkey import Provider

    directory = StateDirectory.open(root)
    if not database_url and not directory.database.exists():
        raise InputError(f"{root} holds no database", hint="give --state or --database-url")
    with StateLock.hold(directory.lock):
        database = Database.open(database_url or sqlite_url(directory.database))
        try:
            done = change_root_key(
                database,
                directory,
                SystemRandomness(),
                to=cast(Provider | None, to or None),
                ask=getpass.getpass if sys.stdin.isatty() else None,
            )
        finally:
            database.close()
    sys.stdout.write(f"root key changed ({done.before} -> {done.after}); {done.moved} keys rewrapped\n")
    sys.stdout.write(_NEXT[done.after].format(key_file=directory.root_key) + "\n")
