"""What a process prints, in files that its real standard output and error went to."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from keyleaf.client.guard import SecretGuard
from keyleaf.client.output import ScrubbedStream

VALUE = "sk_live/51Hf=83hK ü"
MARK = "[secret payments/stripe-api-key]"


@pytest.fixture
def guard() -> SecretGuard:
    made = SecretGuard()
    made.hold("payments/stripe-api-key", VALUE)
    return made


def stream(guard: SecretGuard) -> tuple[ScrubbedStream, io.BytesIO]:
    below = io.BytesIO()
    return ScrubbedStream(io.TextIOWrapper(below, encoding="utf-8", write_through=True), guard), below


def test_a_value_in_pieces_is_found_within_a_line(guard: SecretGuard) -> None:
    out, below = stream(guard)
    for piece in VALUE:
        print(piece, end="", file=out, flush=True)
    assert below.getvalue() == b""
    print(" is it", file=out)
    assert below.getvalue().decode() == f"{MARK} is it\n"


def test_lines_leave_as_they_end_and_the_rest_at_the_close(guard: SecretGuard) -> None:
    out, below = stream(guard)
    out.writelines(["one\ntwo", " and\r", "three"])
    assert below.getvalue() == b"one\ntwo and\r"
    print(f"\n{VALUE}", end="", file=out)
    out.close()
    out.close()
    assert below.getvalue().decode() == f"one\ntwo and\rthree\n{MARK}"
    with pytest.raises(ValueError, match="closed"):
        out.write("x")


def test_a_value_of_several_lines_is_found(guard: SecretGuard) -> None:
    guard.hold("payments/key.pem", "-----BEGIN KEY-----\nMIIE\nvAIB\n-----END KEY-----")
    out, below = stream(guard)
    print("before\n-----BEGIN KEY-----\nMIIE\nvAIB\n-----END KEY-----", file=out)
    assert below.getvalue() == b"before\n[secret payments/key.pem]\n"


def test_only_the_line_that_cannot_be_cut_is_withheld(guard: SecretGuard) -> None:
    out, below = stream(guard)
    out.write(f"one\n{VALUE.encode().hex(':')}\nthree\n")
    withheld = "[withheld: it held secret payments/stripe-api-key, hexadecimal]"
    assert below.getvalue().decode() == f"one\n{withheld}\nthree\n"


def test_bytes_pass_unchanged_but_for_the_value(guard: SecretGuard) -> None:
    out, below = stream(guard)
    out.write("text\n")
    out.buffer.write(b"\xff\xfe\0 picture\n" + VALUE[:4].encode())
    out.buffer.write(VALUE[4:].encode() + b"\n\x80 rest")
    assert below.getvalue() == b"text\n\xff\xfe\0 picture\n" + MARK.encode() + b"\n"
    out.close()
    assert below.getvalue().endswith(b"\n\x80 rest")


def test_nothing_waits_while_nothing_is_held() -> None:
    guard = SecretGuard()
    out, below = stream(guard)
    out.write("Name: ")
    assert below.getvalue() == b"Name: "
    guard.hold("a/b", "a-value")
    out.write("a-va")
    out.write("lue\n")
    assert below.getvalue() == b"Name: [secret a/b]\n"


def test_an_endless_line_does_not_fill_the_memory(guard: SecretGuard) -> None:
    out, below = stream(guard)
    for _ in range(100):
        out.write("x" * 9_995 + VALUE[:5])
        out.write(VALUE[5:])
    assert len(below.getvalue()) > 500_000
    out.close()
    assert below.getvalue().decode() == ("x" * 9_995 + MARK) * 100


PROGRAM = """
    import asyncio, faulthandler, logging, sys, threading
    from keyleaf.client.guard import SecretGuard
    from keyleaf.client.logs import guard_logging
    from keyleaf.client.output import guard_output, loop_exception_handler

    value = "-".join(("canary", "5f1c", "e07a"))
    guard = SecretGuard()
    if sys.argv[1] == "guarded":
        guard.hold("shop/key", value)
    before = sys.stdout, sys.stderr, sys.excepthook, threading.excepthook, sys.unraisablehook
    guard_output(guard)()
    assert before == (sys.stdout, sys.stderr, sys.excepthook, threading.excepthook, sys.unraisablehook)
    guard_output(guard)
    guard_logging(guard)
    faulthandler.enable()
    logging.basicConfig()

    print("printed", value)
    sys.stderr.write(f"told {value}\\n")
    logging.getLogger("lib").warning("logged %s", value)

    def fail():
        raise ValueError(f"thread {value}")

    thread = threading.Thread(target=fail, name=f"thread-{value}")
    thread.start()
    thread.join()

    class Dying:
        def __del__(self):
            raise ValueError(f"unraisable {value}")

    Dying()

    async def main():
        async def forgotten():
            raise ValueError(f"forgotten {value}")
        if len(sys.argv) > 2:
            asyncio.get_running_loop().set_exception_handler(loop_exception_handler(guard))
        task = asyncio.create_task(forgotten(), name=value)
        await asyncio.wait([task])
        del task

    asyncio.run(main())
    print("last", value, end="")
    raise RuntimeError(f"main {value}") from KeyError(value)
"""


@pytest.mark.parametrize("handler", [[], ["with-handler"]])
@pytest.mark.parametrize("guarded", [True, False])
def test_a_process_that_prints_it_everywhere(tmp_path: Path, guarded: bool, handler: list[str]) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        how = "guarded" if guarded else "not guarded"
        done = subprocess.run([sys.executable, program, how, *handler], stdout=out, stderr=err, timeout=60)
    assert done.returncode == 1
    printed, told = (tmp_path / "out").read_text(), (tmp_path / "err").read_text()
    shown = "[secret shop/key]" if guarded else "canary-5f1c-e07a"
    assert printed == f"printed {shown}\nlast {shown}"
    for line in (
        f"told {shown}",
        f"logged {shown}",
        f"Exception in thread thread-{shown}:",
        f"ValueError: thread {shown}",
        f"ValueError: unraisable {shown}",
        "Task exception was never retrieved",
        f"ValueError: forgotten {shown}",
        f"RuntimeError: main {shown}",
        "The above exception was the direct cause",
    ):
        assert line in told
    assert ("canary-5f1c-e07a" in told) is not guarded
