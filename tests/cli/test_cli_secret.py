"""``keyleaf secret`` and ``why`` against the embedded server: no value where nobody asked for it."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from cloud_server import running_server
from typer.testing import CliRunner

from keyleaf.cli.secret import expiry, secret
from keyleaf.cli.session import connect
from keyleaf.cli.why import why
from keyleaf.core.errors import InputError, KeyleafError, RemoteError
from keyleaf.core.scope import vault_scope

RUNNER = CliRunner()
CANARY = "canary-7f3a9c"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory whose server has one vault, ``kv-cli``."""
    with running_server(tmp_path_factory.mktemp("cli") / "state") as directory:
        session = connect(directory)
        scope = vault_scope(session.azure.subscription, session.named["resource-group"], "kv-cli")
        session.azure.put_vault(scope, session.named["location"], {})
        yield directory


@pytest.fixture
def run(state: Path) -> Any:
    app = typer.Typer()
    app.add_typer(secret, name="secret")
    app.command()(why)

    def call(*arguments: str, stdin: str = "") -> Any:
        result = RUNNER.invoke(app, [*arguments, "--state", str(state)], input=stdin.encode(), env={"NO_COLOR": "1"})
        if result.exception and not isinstance(result.exception, SystemExit | KeyleafError):
            raise result.exception
        return result

    return call


def test_value_comes_from_stdin_and_goes_to_stdout_byte_for_byte(run: Any) -> None:
    done = run("secret", "set", "kv-cli/first", stdin=CANARY + "\n")
    assert done.exit_code == 0
    assert CANARY not in done.output
    assert run("secret", "get", "kv-cli/first").stdout_bytes == CANARY.encode()
    run("secret", "set", "first", "--raw", stdin="with newline\n")
    assert run("secret", "get", "first").stdout_bytes == b"with newline\n"


def test_json_holds_no_value_unless_asked(run: Any) -> None:
    made = json.loads(
        run("secret", "set", "second", "--content-type", "text/plain", "--tag", "a=b", "--json", stdin=CANARY).stdout
    )
    assert (made["vault"], made["name"], made["content_type"], made["tags"]) == (
        "kv-cli",
        "second",
        "text/plain",
        {"a": "b"},
    )
    hidden = run("secret", "get", "second", "--json").stdout
    assert CANARY not in hidden
    assert json.loads(hidden)["version"] == made["version"]
    assert json.loads(run("secret", "get", "second", "--json", "--reveal").stdout)["value"] == CANARY


def test_versions_newest_first_and_each_by_its_name(run: Any) -> None:
    for value in ("one", "two"):
        run("secret", "set", "third", stdin=value)
    listed = json.loads(run("secret", "versions", "third", "--json").stdout)
    assert len(listed) == 2
    values = {run("secret", "get", "third", "--version", entry["version"]).stdout for entry in listed}
    assert values == {"one", "two"}


def test_disable_enable_delete_recover(run: Any) -> None:
    run("secret", "set", "fourth", stdin=CANARY)
    assert run("secret", "disable", "fourth").exit_code == 0
    refused = run("secret", "get", "fourth")
    assert isinstance(refused.exception, RemoteError)
    assert CANARY not in str(refused.exception)
    run("secret", "enable", "fourth")
    assert run("secret", "get", "fourth").stdout == CANARY
    assert "keyleaf secret recover kv-cli/fourth" in run("secret", "delete", "fourth").stdout
    assert isinstance(run("secret", "get", "fourth").exception, RemoteError)
    run("secret", "recover", "fourth")
    assert run("secret", "get", "fourth").stdout == CANARY


def test_list_shows_attributes_only(run: Any) -> None:
    run("secret", "set", "fifth", "--expires", "2040-01-01", stdin=CANARY)
    table = run("secret", "list", "kv-cli").stdout
    assert CANARY not in table
    (line,) = (line for line in table.splitlines() if "fifth" in line)
    assert line.split()[:4] == ["kv-cli", "fifth", "yes", "2040-01-01T00:00:00Z"]
    every = json.loads(run("secret", "list", "--json").stdout)
    assert "fifth" in {row["name"] for row in every}


def test_terminal_gets_no_value_by_itself(run: Any, state: Path) -> None:
    """Shown on a real pseudo-terminal: a value must not end up in somebody's scrollback unasked."""
    run("secret", "set", "sixth", stdin=CANARY)
    shown = on_terminal(["secret", "get", "kv-cli/sixth", "--state", str(state)])
    assert CANARY not in shown
    assert "sixth" in shown
    assert CANARY in on_terminal(["secret", "get", "kv-cli/sixth", "--reveal", "--state", str(state)])


def on_terminal(arguments: list[str]) -> str:
    program = (
        "import typer; from keyleaf.cli.secret import secret; app = typer.Typer(); "
        f"app.add_typer(secret, name='secret'); app({arguments!r})"
    )
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    output = b""
    while True:
        try:
            piece = os.read(descriptor, 4096)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.waitpid(pid, 0)
    os.close(descriptor)
    return output.decode()


def test_why_names_the_role_of_the_operator(run: Any) -> None:
    run("secret", "set", "seventh", stdin=CANARY)
    answer = json.loads(run("why", "keyleaf-operator", "kv-cli/seventh", "--json").stdout)
    assert (answer["allowed"], answer["notes"]) == (True, [])
    assert answer["role"] == "Key Vault Administrator"
    missing = json.loads(run("why", "keyleaf-operator", "kv-cli/nothing", "--json").stdout)
    assert missing["notes"] == ["kv-cli/nothing does not exist: the answer is 404"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["set", "x", "--tag", "nothing"], "v", "is not a tag"),
        (["set", "x", "--expires", "soon"], "v", "is not a time"),
        (["versions", "absent"], "", "there is no secret 'absent'"),
        (["disable", "first", "--version", "0" * 32], "", "has no version"),
        (["get", "kv-none/x"], "", "the subscription has no vault 'kv-none'"),
    ],
)
def test_input_that_cannot_be_used(run: Any, arguments: list[str], stdin: str, message: str) -> None:
    run("secret", "set", "first", stdin="x")
    result = run("secret", *arguments, stdin=stdin)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


def test_no_verb_takes_a_value_as_an_argument() -> None:
    names = {p.name for command in typer.main.get_command(secret).commands.values() for p in command.params}  # type: ignore[attr-defined]
    assert "value" not in names


def test_expiry() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert expiry("90d", now) == now + timedelta(days=90)
    assert expiry("2w", now) == now + timedelta(days=14)
    assert expiry("2030-01-31", now) == datetime(2030, 1, 31, tzinfo=UTC)
    assert expiry("2030-01-31T12:00+02:00", now) == datetime(2030, 1, 31, 10, tzinfo=UTC)
