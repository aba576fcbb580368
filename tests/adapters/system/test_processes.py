"""A child is bounded, told faithfully, and gone with its whole tree when ``run`` returns."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tamma.adapters.system import OsProcesses
from tamma.core.errors import PermanentError
from tamma.ports.system import Completed, ProcessLimits, Stop
from tests.support.machine import PATH, PYTHON, a_tag, alive, eventually, is_alive, limits, peak_bytes, pid_in

# A daemon as they come: two forks, a session of its own, deaf to SIGTERM, environment wiped, holding the pipe.
DAEMON = """
import os, signal, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import os,sys,time,signal; signal.signal(15, signal.SIG_IGN); open(sys.argv[1],'w').write(f'{os.getpid()}\\\\n'); time.sleep(600)"
os.execve(sys.executable, [sys.executable, "-c", code, sys.argv[1]], {})
"""
# Never more than 40 at once, but always new ones: each dies at once after it has started the next.
BOMB = """
import os, time
for _ in range(40):
    if os.fork() == 0: break
else:
    os._exit(0)
end = time.monotonic() + 120
while time.monotonic() < end:
    if os.fork(): os._exit(0)
"""


def run(
    argv: list[str], cwd: Path, *, bounds: ProcessLimits | None = None, tag: str | None = None, **more: object
) -> Completed:
    env = {"PATH": PATH, **({"TAMMA_BOX": tag} if tag else {})}
    return OsProcesses().run(argv, cwd=cwd, env=env, limits=bounds or limits(), **more)  # type: ignore[arg-type]


def test_output_of_both_streams_and_exit_code_are_told(tmp_path: Path) -> None:
    """Standard output and error come merged, in order, with the exit code."""
    done = run(["sh", "-c", "echo one; echo two >&2; exit 7"], tmp_path)
    assert (done.exit_code, done.stop, done.output) == (7, Stop.EXITED, "one\ntwo\n")
    assert done.output_bytes == 8


def test_the_environment_is_exactly_what_was_given(tmp_path: Path) -> None:
    """Nothing of ours is inherited: no variable, no descriptor."""
    done = OsProcesses().run(["/usr/bin/env"], cwd=tmp_path, env={"ONLY": "this", "LANG": "C"}, limits=limits())
    assert sorted(done.output.split()) == ["LANG=C", "ONLY=this"]
    fds = run(["ls", "/proc/self/fd"], tmp_path)
    assert fds.output.split() == ["0", "1", "2", "3"]  # 3 is ls's own


def test_a_signal_is_told_as_a_negative_code(tmp_path: Path) -> None:
    """As in subprocess."""
    assert run(["sh", "-c", "kill -9 $$"], tmp_path).exit_code == -signal.SIGKILL


def test_sigpipe_is_as_a_shell_expects(tmp_path: Path) -> None:
    """Python ignores SIGPIPE; a child must not inherit that."""
    assert run(["sh", "-c", "yes | head -1"], tmp_path).output == "y\n"
    assert "SigIgn:\t0000000000000000" in run(["cat", "/proc/self/status"], tmp_path).output


@pytest.mark.parametrize("size", [1, 5_000_000])
def test_stdin_is_fed_without_deadlock(tmp_path: Path, size: int) -> None:
    """More than a pipe holds goes in while as much comes out."""
    assert run(["cat"], tmp_path, stdin=b"x" * size).output_bytes == size


def test_a_child_that_does_not_read_its_stdin_ends_as_it_likes(tmp_path: Path) -> None:
    """A closed pipe is not our trouble."""
    assert run(["true"], tmp_path, stdin=b"x" * 5_000_000).is_ok
    done = run(["sleep", "60"], tmp_path, stdin=b"x" * 5_000_000, bounds=limits(seconds=0.3))
    assert done.stop is Stop.WALL_CLOCK


def test_a_flood_is_counted_not_kept(tmp_path: Path) -> None:
    """300 MB of output, without a line end, leave memory as it was; head and tail stay."""
    lines: list[str] = []
    before = peak_bytes()
    done = run(["sh", "-c", "echo head; head -c 300000000 /dev/zero; echo; echo tail"], tmp_path, on_line=lines.append)
    assert done.output_bytes == 300_000_011
    assert done.output.startswith("head\n")
    assert done.output.endswith("tail\n")
    assert len(done.output.encode()) <= 262_144 + 128
    assert peak_bytes() - before < 64_000_000
    assert (lines[0], lines[-1]) == ("head", "tail")


def test_invalid_utf8_and_controls_are_made_harmless(tmp_path: Path) -> None:
    """What comes back can be stored and shown."""
    done = run(["printf", r"a\377b\000c\033[31mred\r\nend"], tmp_path)
    assert done.output == "a\ufffdbcred\nend"


def test_lines_are_whole_and_bounded(tmp_path: Path) -> None:
    """A line arrives once it is complete, the last one at the end, and never more than 8 KiB of one."""
    lines: list[str] = []
    run(
        ["sh", "-c", "printf 'a\\nb'; head -c 100000 /dev/zero | tr '\\0' x; printf '\\nlast'"],
        tmp_path,
        on_line=lines.append,
    )
    assert (lines[0], len(lines[1]), lines[2]) == ("a", 8_192, "last")


@pytest.mark.parametrize(
    ("bounds", "script", "stop"),
    [
        (limits(seconds=0.5), "echo x; exec sleep 60", Stop.WALL_CLOCK),
        (limits(idle=0.5), "echo x; exec sleep 60", Stop.IDLE),
        (limits(seconds=0.5), "while :; do echo x; done", Stop.WALL_CLOCK),
    ],
)
def test_each_limit_ends_the_child(tmp_path: Path, bounds: ProcessLimits, script: str, stop: Stop) -> None:
    """A quiet one, an idle one, a loud one, and one that is never quiet."""
    done = run(["sh", "-c", script], tmp_path, bounds=bounds)
    assert (done.stop, done.exit_code < 0) == (stop, True)


def test_idle_counts_from_the_last_output(tmp_path: Path) -> None:
    """A child that goes on speaking is not idle."""
    done = run(["sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done"], tmp_path, bounds=limits(idle=0.9))
    assert done.is_ok


def test_a_child_is_stopped_on_request_within_a_second(tmp_path: Path) -> None:
    """``should_stop`` is asked again and again."""
    begun = time.monotonic()
    done = run(["sleep", "60"], tmp_path, should_stop=lambda: time.monotonic() > begun + 0.2)
    assert done.stop is Stop.ASKED
    assert time.monotonic() - begun < 1.5


def test_a_child_may_end_itself_within_the_grace(tmp_path: Path) -> None:
    """SIGTERM comes first, and what is said then still counts."""
    script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    done = run(["sh", "-c", script], tmp_path, bounds=limits(idle=1, grace=5))
    assert (done.exit_code, done.stop) == (3, Stop.IDLE)
    assert done.output.endswith("bye\n")


@pytest.mark.parametrize("ending", ["exit 0", "sleep 60"])
def test_a_daemon_dies_with_the_run(tmp_path: Path, ending: str) -> None:
    """Double fork, setsid, no marker, deaf to SIGTERM, holding our pipe: dead on return, however the command ended."""
    (tmp_path / "daemon.py").write_text(DAEMON)
    script = f"{PYTHON} daemon.py pid; until [ -s pid ]; do sleep 0.02; done; {ending}"
    begun = time.monotonic()
    run(["sh", "-c", script], tmp_path, bounds=limits(seconds=3))
    assert not is_alive(pid_in(tmp_path / "pid"))
    assert time.monotonic() - begun < 10


def test_a_bomb_is_over_on_return(tmp_path: Path) -> None:
    """Processes that replace themselves all the time do not slip through."""
    tag = a_tag()
    done = run([PYTHON, "-c", BOMB], tmp_path, bounds=limits(seconds=0.5), tag=tag)
    assert done.duration.total_seconds() < 20
    assert alive(tag) == []


def test_a_stopped_child_is_killed(tmp_path: Path) -> None:
    """SIGSTOP does not save it."""
    done = run(["sh", "-c", "kill -STOP $$"], tmp_path, bounds=limits(seconds=0.3))
    assert (done.stop, done.exit_code) == (Stop.WALL_CLOCK, -signal.SIGKILL)


def test_a_child_that_closes_its_output_and_lives_on_meets_its_limit(tmp_path: Path) -> None:
    """The end of the pipe is not the end of the process."""
    done = run(["sh", "-c", "exec >&- 2>&-; exec sleep 60"], tmp_path, bounds=limits(seconds=0.5))
    assert done.stop is Stop.WALL_CLOCK


@pytest.mark.parametrize("signame", ["KILL", "STOP"])
def test_a_child_that_attacks_its_warden_gains_nothing(tmp_path: Path, signame: str) -> None:
    """It dies with it, or is ended at its limit; what it started goes too."""
    tag = a_tag()
    done = run(["sh", "-c", f"sleep 60 & kill -{signame} $PPID; sleep 60"], tmp_path, bounds=limits(seconds=1), tag=tag)
    assert not done.is_ok
    assert alive(tag) == []


def test_an_error_in_on_line_ends_the_child_and_is_raised(tmp_path: Path) -> None:
    """A lost lease, found out while an agent speaks, leaves nothing running."""
    tag = a_tag()

    def refuse(line: str) -> None:
        raise KeyError(line)

    with pytest.raises(KeyError, match="up"):
        run(["sh", "-c", "echo up; sleep 60 & sleep 60"], tmp_path, on_line=refuse, tag=tag)
    assert alive(tag) == []


def test_kill_9_of_the_worker_ends_the_tree(tmp_path: Path) -> None:
    """Nobody is left to clean up, so the warden does, daemons included."""
    (tmp_path / "daemon.py").write_text(DAEMON)
    worker = f"""
from datetime import timedelta
from pathlib import Path
from tamma.adapters.system import OsProcesses
from tamma.ports.system import ProcessLimits
OsProcesses().run(["sh", "-c", "{PYTHON} daemon.py pid; echo $$ > child; sleep 600"], cwd=Path({str(tmp_path)!r}),
    env={{"PATH": {PATH!r}}}, limits=ProcessLimits(wall_clock=timedelta(seconds=600)))
"""
    process = subprocess.Popen([PYTHON, "-c", worker])
    daemon, child = pid_in(tmp_path / "pid"), pid_in(tmp_path / "child")
    process.kill()
    process.wait()
    eventually(lambda: not is_alive(daemon) and not is_alive(child), seconds=5)


def test_runs_in_threads_do_not_steal_from_one_another(tmp_path: Path) -> None:
    """Each gets its own exit code, and a Popen of somebody else keeps its own."""
    codes: dict[int, int] = {}
    other = subprocess.Popen(["sh", "-c", "sleep 0.3; exit 42"])

    def one(n: int) -> None:
        codes[n] = run(["sh", "-c", f"sleep 0.2 & sleep 0.1; exit {n}"], tmp_path).exit_code

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {n: n for n in range(8)}
    assert other.wait() == 42


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    """Missing, not executable, not a program, too long, a NUL, a missing folder: PermanentError, and nothing hangs."""
    plain = tmp_path / "plain"
    plain.write_text("no first line")
    with pytest.raises(PermanentError, match=r"plain.*Permission denied"):
        run([str(plain)], tmp_path)
    plain.chmod(0o755)
    for argv, cwd, name in [
        ([str(plain)], tmp_path, "plain"),
        (["no-such-program"], tmp_path, "no-such-program"),
        (["echo", "x" * 3_000_000], tmp_path, "echo"),
        (["echo", "a\0b"], tmp_path, "echo"),
        (["echo"], tmp_path / "away", "away"),
    ]:
        with pytest.raises(PermanentError, match=name):
            run(argv, cwd)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """A worker runs thousands of children."""
    run(["true"], tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        run(["cat"], tmp_path, stdin=b"x")
        with pytest.raises(PermanentError):
            run(["no-such-program"], tmp_path, stdin=b"x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
