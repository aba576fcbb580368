"""Claims about a loop under systemd: it says when it has begun, that it lives, and that it ends; the unit is sound."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ends import assert_ok, ended
from tests.support.project import Project

UNITS = Path(__file__).parents[2] / "examples" / "systemd"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[socket.socket]:
    """The supervisor's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(30)
        yield end


def heard(line: socket.socket, word: str) -> list[str]:
    """Everything up to a word."""
    words: list[str] = []
    while word not in words:
        words.append(line.recv(4096).decode())
    return words


def test_the_loop_tells_its_supervisor(project: Project, line: socket.socket) -> None:
    """Ready once it has registered, alive while it waits, stopping at the first signal."""
    env = {"NOTIFY_SOCKET": line.getsockname(), "WATCHDOG_USEC": "300000"}
    loop = project.start("orchestrate", env=env)
    assert heard(line, "READY=1") == ["READY=1"]
    assert project.rows("SELECT 1 FROM worker WHERE role = 'orchestrator' AND state = 'online'")
    assert set(heard(line, "WATCHDOG=1")) == {"WATCHDOG=1"}
    loop.send_signal(signal.SIGTERM)
    assert set(heard(line, "STOPPING=1")) <= {"WATCHDOG=1", "STOPPING=1"}
    assert ended(loop).code == 0


def test_a_loop_that_hangs_gives_no_sign_of_life(project: Project, line: socket.socket) -> None:
    """A stopped one: silence is what the watchdog acts on."""
    loop = project.start("orchestrate", env={"NOTIFY_SOCKET": line.getsockname(), "WATCHDOG_USEC": "300000"})
    heard(line, "WATCHDOG=1")
    loop.send_signal(signal.SIGSTOP)
    line.settimeout(1.0)
    with pytest.raises(TimeoutError):
        heard(line, "never said")
    loop.kill()


@pytest.mark.parametrize(
    "env",
    [
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
        {"NOTIFY_SOCKET": "nonsense"},
        {"NOTIFY_SOCKET": "@abstract", "WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1"},
    ],
)
def test_a_supervisor_that_is_not_there_is_nobodys_trouble(project: Project, env: dict[str, str]) -> None:
    """The loop works all the same."""
    assert_ok(project.run("orchestrate", "--until-idle", env=env))
    assert project.state() == ("succeeded", "delivered")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_units_are_sound(tmp_path: Path) -> None:
    """By systemd's own word, with the program where the unit expects it."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/tamma/bin/tamma", "/bin/true").replace("User=tamma", "User=root")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS.iterdir())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "tamma" in line]
    assert ours == []
