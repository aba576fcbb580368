"""Fail points act where, how and when they were asked to."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from tamma.adapters.system import NamedFailPoints, NoFailPoints, SystemChance, SystemClock, parse_fail_points
from tamma.core.errors import ConfigError, TransientError
from tests.support.machine import PYTHON, eventually, is_alive


def reached(spec: str, *, times: int = 1) -> int:
    code = (
        "from tamma.adapters.system import *\n"
        f"points = NamedFailPoints(parse_fail_points({spec!r}))\n"
        f"for _ in range({times}): points.reach('a.b')\n"
    )
    return subprocess.run([PYTHON, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("a.b=kill", -signal.SIGKILL),
        ("a.b=term", -signal.SIGTERM),
        ("a.b=exit", 1),
        ("a.b=raise", 1),
        ("x=kill", 0),
        ("", 0),
    ],
)
def test_a_process_ends_as_asked(spec: str, code: int) -> None:
    """Only at the place that was named."""
    assert reached(spec) == code


@pytest.mark.parametrize(("is_dispatched", "code"), [(True, -signal.SIGKILL), (False, 0)])
def test_a_worker_kills_the_loop_that_started_it_and_goes_on(is_dispatched: bool, code: int) -> None:
    """What becomes of it when its orchestrator dies at just this place. Nobody else's parent is killed."""
    child = "from tamma.adapters.system import *; NamedFailPoints({'a': 'orphan'}, is_dispatched=DISPATCHED).reach('a'); print('goes on')"
    child = child.replace("DISPATCHED", str(is_dispatched))
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    done = subprocess.run([PYTHON, "-c", parent], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "goes on\n")


def test_a_process_loses_its_connections_and_nothing_else() -> None:
    """Both ends of a stream are told at once; files and pipes stay."""
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as file:
        NamedFailPoints({"a": "cut"}).reach("a")
        assert (ours.recv(1), theirs.recv(1)) == (b"", b"")
        assert file.write(b"x") == 1


def test_the_nth_time_is_the_nth_time() -> None:
    """Not before, and not after."""
    points = NamedFailPoints({"a": "raise@2"})
    points.reach("a")
    with pytest.raises(RuntimeError):
        points.reach("a")
    points.reach("a")
    NoFailPoints().reach("a")


@pytest.mark.parametrize("action", ["away", "garbage", "busy:1.5", "hang:0"])
def test_a_forge_can_be_made_to_answer_badly(action: str) -> None:
    """Away, not understood, busy, silent: an error that passes; only who is busy says for how long."""
    with pytest.raises(TransientError) as caught:
        NamedFailPoints({"a": action}).reach("a")
    assert caught.value.retry_after == (timedelta(seconds=1.5) if action == "busy:1.5" else None)


def test_a_stopped_process_stays_until_it_is_continued() -> None:
    """A zombie worker, for the tests of leases."""
    code = "from tamma.adapters.system import *; NamedFailPoints({'a': 'stop'}).reach('a')"
    child = subprocess.Popen([PYTHON, "-c", code])

    def is_stopped() -> bool:
        return ") T " in Path(f"/proc/{child.pid}/stat").read_text()

    eventually(is_stopped)
    child.send_signal(signal.SIGCONT)
    assert child.wait() == 0
    assert not is_alive(child.pid)


@pytest.mark.parametrize(
    "text", ["a", "=kill", "a=burn", "a=kill@", "a=kill@0", "a=kill@x", "a=busy", "a=busy:x", "a=kill:1"]
)
def test_nonsense_is_refused_with_a_reason(text: str) -> None:
    """ConfigError, and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        parse_fail_points(text)
    assert caught.value.fix


def test_chance_and_clock_keep_their_word() -> None:
    """Chance is in [0, 1); the clock goes on."""
    assert all(0 <= SystemChance().fraction() < 1 for _ in range(100))
    assert SystemClock().monotonic() <= SystemClock().monotonic()
