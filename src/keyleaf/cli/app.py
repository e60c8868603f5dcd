"""The program: verbs are imported when they are called, and every error is one line."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from keyleaf import __version__
from keyleaf.core.errors import KeyleafError

# verb -> (module, attribute, one line of help)
VERBS: dict[str, tuple[str, str, str]] = {
    "up": ("up", "up", "Run a tree: embedded Azure, identities, access, children; live."),
    "run": ("run", "run", "Run a command as an application of the running tree."),
    "tree": ("tree", "tree", "Show the applications of a tree, and the secrets that each one needs."),
    "plan": ("plan", "plan", "Show what apply would change in Azure, and what is wrong."),
    "apply": ("apply", "apply", "Bring Azure to what the tree declares."),
    "who": ("who", "who", "Who may read a secret, who declares it, who did read it."),
    "why": ("why", "why", "Why an identity may, or may not, read a secret."),
    "flow": ("flow", "flow", "Start, watch and steer orchestrations."),
    "secret": ("secret", "secret", "Set, get, list secrets and their versions."),
    "audit": ("audit", "audit", "Read, verify and export the audit log."),
    "serve": ("serve", "serve", "Run the embedded Azure alone."),
    "rekey": ("rekey", "rekey", "Change the root key."),
}
_INTERRUPTED = 130


class _Verbs(TyperGroup):
    """Loads a verb's module when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module, attribute, help_line = VERBS[cmd_name]
        if ctx.resilient_parsing or _lists_only():
            return typer.main.get_command(_single(_placeholder, help_line))
        found = getattr(importlib.import_module(f"keyleaf.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            found.rich_markup_mode = None
        command = typer.main.get_command(found if isinstance(found, typer.Typer) else _single(found, ""))
        command.name = cmd_name
        return command


def _lists_only() -> bool:
    """Whether the program was asked for its list of verbs only."""
    return all(argument.startswith("-") for argument in sys.argv[1:])


def _placeholder() -> None:
    """Stands for a verb in the list of verbs."""


def _single(function: Any, help_line: str) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(help=help_line or None)(function)
    return app


app = typer.Typer(
    cls=_Verbs,
    name="keyleaf",
    help="Every app in the tree carries its own key, and only its own.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"keyleaf {__version__}\n")
        raise typer.Exit


@app.callback()
def program(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Every app in the tree carries its own key, and only its own."""


def main() -> None:
    """Run the program; a KeyleafError becomes one line and its exit code."""
    try:
        app()
    except KeyleafError as error:
        sys.stderr.write(f"keyleaf: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
