"""Signals to the command: what was ignored stays so, and an alarm that somebody else set is theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from sandbox import Config, Machine
from sandbox.program import load_program
from tests.cli.conftest import COMMAND, SPIN


def signalled(
    program: Path, number: int, environment: dict[str, str], *words: str, preexec=None
) -> tuple[int, bytes, bytes]:
    """(status, output, errors) of a run that got the signal while its guest ran; the guest's input ends after that, if
    the run has not."""
    with subprocess.Popen(
        [*COMMAND, "run", "--quiet", *words, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=preexec,
    ) as process:
        assert process.stdout is not None and process.stdout.read(3) == b"go\n"
        process.send_signal(number)
        if preexec is None:
            process.wait(60)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_sigint_that_was_ignored_stays_so(environment, compile_c) -> None:
    program = compile_c(SPIN)

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert signalled(program, signal.SIGINT, environment, preexec=ignore)[:2] == (0, b"end")
    status, out, _ = signalled(program, signal.SIGINT, environment)
    assert status == 130 and out == b""


def test_a_foreign_alarm_is_no_time_limit(environment, compile_c) -> None:
    """It ends the command as it ends any other that did not ask for it; ignored at start, it does nothing."""
    program = compile_c(SPIN)
    for words in ((), ("--time-limit", "50")):
        assert signalled(program, signal.SIGALRM, environment, *words)[0] == -signal.SIGALRM
    ignore = lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN)  # noqa: E731
    assert signalled(program, signal.SIGALRM, environment, preexec=ignore)[:2] == (0, b"end")


def test_an_alarm_of_the_embedding_program_is_its_own(compile_c) -> None:
    program = str(compile_c(SPIN))
    load_program(program)
    source, sink = os.pipe()
    rung: list[float] = []

    def ring(*_) -> None:
        rung.append(time.monotonic())
        if len(rung) == 3:
            os.close(sink)

    before, stdin = signal.signal(signal.SIGALRM, ring), os.dup(0)
    os.dup2(source, 0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
        result = Machine(Config(time_limit=None)).run([program], capture=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(source)
    assert result.ended == "exited" and len(rung) >= 3
