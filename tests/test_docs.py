"""Documentation that cannot drift: what the pages name exists, and what exists is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from keyleaf.cli.app import VERBS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def help_of(*verb: str) -> str:
    """What ``--help`` says, at a fixed width."""
    command = [sys.executable, "-m", "keyleaf", *verb, "--help"]
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return "\n".join(line.rstrip() for line in finished.stdout.strip().splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "http://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) >= 15
    for file, test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or re.search(rf"^\s*(?:async def|def|class) {test}\b", text, re.MULTILINE), f"{file}::{test}"


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf-8")):
            assert target in targets, f"{page.name}: make {target}"


def test_every_verb_is_on_the_command_page() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.findall(r"^## `keyleaf (\w+)`$", page, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_command_page_says_what_help_says(verb: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = page.split(f"## `keyleaf {verb}`\n", 1)[1].split("\n## ", 1)[0]
    shown = section.split("```text\n", 1)[1].split("\n```", 1)[0]
    assert shown == help_of(verb), "rewrite it: python tests/test_docs.py"


def test_verbs_that_a_page_shows_exist() -> None:
    for page in PAGES:
        for verb in re.findall(r"(?:^\$ |`)keyleaf ([a-z]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert verb in VERBS, f"{page.name}: keyleaf {verb}"


def write_command_page() -> None:
    """Write docs/cli.md anew."""
    parts = [
        "# Commands\n",
        "What `--help` says, verb by verb. [Exit codes](exit-codes.md), [settings](settings.md).\n",
    ]
    parts += [f"## `keyleaf {verb}`\n\n```text\n{help_of(verb)}\n```\n" for verb in VERBS]
    (ROOT / "docs" / "cli.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    write_command_page()
