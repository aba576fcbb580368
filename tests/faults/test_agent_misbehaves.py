"""Whatever an agent does to the machine, its attempt has a defined end, and no process of it is left.

In a whole run (``TAMMA_TEST_WHOLE=1``) much is a gigabyte.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.faults.world import EDIT, assert_delivered_once, ended, queue, start_work
from tests.support.project import Project, wait_until
from tests.support.sample import IS_WHOLE

MUCH: Final = 1_073_741_824 if IS_WHOLE else 33_554_432
WORKER_BYTES_MAX: Final = 200 * 1_048_576
LIMITS: Final = """
[agent]
kind = "scripted"
script = "agent.toml"
idle_seconds = 4
"""
PATIENT: Final = {"TAMMA_LEASE__DURATION_SECONDS": "60"}
DELIVERED: Final = 0
AGENT_FAILED: Final = 11


def behaviours(root: Path) -> dict[str, tuple[str, int]]:
    """What it does besides its work, and how that ends. Whoever sleeps says first that he is there."""

    def shell(name: str, script: str) -> str:
        sleeper, begun = f"{root}/sleeper {name}", f"{root}/begun.{name}"
        script = script.replace("SLEEP", sleeper) + f"; while [ ! -s {begun} ]; do sleep 0.05; done"
        return f'{{ run = ["sh", "-c", "{script}"] }}'

    return {
        "forks": (shell("forks", "for n in 1 2 3 4 5 6 7 8 9; do SLEEP & done"), DELIVERED),
        "daemonises": (shell("daemon", "(setsid sh -c 'setsid SLEEP >/dev/null 2>&1 </dev/null &' &)"), DELIVERED),
        "hides": (shell("hidden", "(env -i setsid /bin/sh -c 'SLEEP &' >/dev/null 2>&1 &)"), DELIVERED),
        "is deaf and hangs": (shell("deaf", "trap '' TERM INT HUP; while :; do SLEEP; done"), AGENT_FAILED),
        "hangs": (shell("silent", "SLEEP"), AGENT_FAILED),
        "prints very much": (f"{{ flood = {MUCH} }}", DELIVERED),
        "prints one long line": (f"{{ flood = {MUCH}, one_line = true }}", DELIVERED),
        "prints garbage": ('{ run = ["head", "-c", "100000", "/dev/urandom"] }', DELIVERED),
    }


def test_every_misbehaviour_has_its_end(project: Project) -> None:
    """Side by side: those who worked deliver, those who hang are stopped and charged; memory stays small."""
    sleeper = project.root / "sleeper"
    sleeper.write_text(f"#!/bin/sh\necho $$ >> {project.root}/begun.$1\nexec tail -f {project.root}/agent.toml\n")
    sleeper.chmod(0o755)
    found = behaviours(project.root)
    project.configure(f'{LIMITS}\n[[gates]]\nname = "check"\nargv = ["grep", "a + b", "calc.py"]\n', steps=None)
    plays = []
    for number, (steps, _) in enumerate(found.values(), 1):
        project.issue(str(number))
        plays.append(f'[[play]]\nissue = "demo#{number}"\nsteps = [{EDIT}, {steps}]\n')
    project.script(*plays)
    tasks = queue(project, [str(number) for number, _ in enumerate(found, 1)])
    workers = [start_work(project, task, **PATIENT) for task in tasks]
    peaks = dict.fromkeys(found, 0)
    wait_until(lambda: not _still_at_it(dict(zip(found, workers, strict=True)), peaks), seconds=120, what="each end")
    assert min(peaks.values()) > 0, peaks
    for worker, task, (of, (_, code)) in zip(workers, tasks, found.items(), strict=True):
        done = ended(worker)
        assert done.code == code, (of, done.code, done.err, done.out)
        assert "Traceback" not in done.err, (of, done.err)
        attempts = project.rows("SELECT attempts FROM task WHERE id = %s", task)
        assert attempts == [(1 if code == AGENT_FAILED else 0,)], of
    assert len(list(project.root.glob("begun.*"))) == 5
    assert _running(str(project.root)) == []
    assert max(peaks.values()) < WORKER_BYTES_MAX, peaks
    delivered = [str(n) for n, (_, code) in enumerate(found.values(), 1) if code == DELIVERED]
    assert set(project.branches()) == {f"tamma/{number}" for number in delivered}
    assert_delivered_once(project, *delivered)


def _still_at_it(workers: Mapping[str, subprocess.Popen[str]], peaks: dict[str, int]) -> list[str]:
    """Which have not ended; their memory is looked at meanwhile."""
    left = [of for of, worker in workers.items() if worker.poll() is None]
    for of in left:
        for line in Path(f"/proc/{workers[of].pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                peaks[of] = int(line.split()[1]) * 1024
    return left


def _running(text: str) -> list[str]:
    """Command lines of this machine that hold a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found += [line] if text in line else []
    return found
