"""The storm: real orchestrators and workers, and a seeded hand that kills, stops, cuts and restarts them; then quiet."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

from tamma.adapters.forges.around import FORGE_POINTS
from tests.chaos.resources import Gauge
from tests.support.project import Project

ORCHESTRATORS: Final = 2
# Each loop has one worker, so that there are four in all.
VICTIMS: Final = 2
KILLS_PER_ISSUE: Final = 10
OPEN_ISSUES: Final = 12
LEASE_SECONDS: Final = 3.0
QUIET_SECONDS_MAX: Final = 240.0
SAMPLES_PER_RUN: Final = 40
SAMPLE_SECONDS_MAX: Final = 30.0
# Done, somebody else has it, cancelled, the lease was lost, the database was away, asked to stop, killed.
ENDS: Final = frozenset({0, 3, 4, 20, 75, 143, -signal.SIGKILL})
ANSWERS: Final = ("away", "garbage", "busy:1", "hang:1")
_POLL_SECONDS: Final = 0.05
_PHASES: Final = ("prepare", "baseline", "implement", "repair", "audit", "gates", "publish", "report")
# The places where a worker can be made to die; a test holds this list against the product's own.
PLACES: Final = (
    "claim.after_record",
    *(f"{phase}.{moment}" for phase in _PHASES[:-1] for moment in ("before_enter", "after_enter")),
    *(f"agent.{moment}" for moment in ("before_run", "after_run")),
    *(
        f"{step}.{boundary}"
        for step in ("push", "change", "comment", "labels")
        for boundary in ("before_intent", "after_intent", "before_effect", "after_effect", "after_record")
    ),
    "settle.before_effect",
    "settle.after_effect",
)
_OTHERS: Final = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'tamma%'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much, and with which chance: until ``kills`` are done and ``seconds`` are over. ``is_one_spared``: then the first loop
    is never killed nor stopped, so that what it uses up over the whole time can be seen."""

    seed: int
    issues: Mapping[str, Mapping[str, str]]  # repository -> the title and the body of each of its issues
    kills: int | None = None
    seconds: float | None = None
    is_one_spared: bool = False
    restart_database: Callable[[], None] | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was done."""

    kills: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    issues: dict[str, str] = field(default_factory=dict)  # number -> repository
    bugs: list[str] = field(default_factory=list)
    quiet_seconds: float = 0.0

    @property
    def killed(self) -> int:
        """All of them."""
        return self.kills.total()


@dataclass(slots=True, kw_only=True)
class Storm:
    """One run over one project. Used once."""

    project: Project
    plan: Plan
    gauge: Gauge
    tally: Tally = field(default_factory=Tally)
    _chance: random.Random = field(init=False)
    _loops: list[subprocess.Popen[str]] = field(default_factory=list)
    _victims: dict[subprocess.Popen[str], tuple[str, float | None]] = field(default_factory=dict)
    _asleep: list[tuple[float, int]] = field(default_factory=list)
    _outputs: dict[subprocess.Popen[str], Path] = field(default_factory=dict)
    _counter: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.plan.seed)

    def rage(self) -> None:
        """Until enough was killed, or the time is over."""
        begun = time.monotonic()
        every = {
            self._kill_loop: 6.0, self._kill_any_worker: 1.5, self._stop_someone: 5.0, self._ask_worker: 4.0, self._ask_loop: 15.0,
            self._cut_connections: 3.0, self._restart_database: 25.0, self._measure: self._between_samples(),
        }  # fmt: skip
        due = {fault: begun + self._chance.uniform(0.5, 1.5) * pause for fault, pause in every.items()}
        while not self._is_enough(time.monotonic() - begun):
            self._keep_busy()
            for fault, pause in every.items():
                if time.monotonic() >= due[fault]:
                    due[fault] = time.monotonic() + self._chance.uniform(0.5, 1.5) * pause
                    with suppress(psycopg.OperationalError):
                        fault()
            self._wake(all_of_them=False)
            self._look_at_victims()
            time.sleep(_POLL_SECONDS)

    def calm(self) -> bool:
        """Faults stop; whether all that was begun came to an end in time (I11)."""
        begun = time.monotonic()
        self._wake(all_of_them=True)
        for victim in list(self._victims):
            victim.wait(timeout=120)
        self._look_at_victims()
        for loop in self._loops:
            loop.terminate()
        for loop in self._loops:
            loop.wait(timeout=120)
            self._judge(loop, "loop")
        done = self.project.run("orchestrate", "--until-idle", "--workers", "2", timeout=QUIET_SECONDS_MAX)
        self.tally.quiet_seconds = time.monotonic() - begun
        self.tally.codes[f"calm {done.code}"] += 1
        return done.code == 0

    # Life

    def _is_enough(self, seconds: float) -> bool:
        return self.tally.killed >= (self.plan.kills or 0) and seconds >= (self.plan.seconds or 0)

    def _between_samples(self) -> float:
        return min(SAMPLE_SECONDS_MAX, (self.plan.seconds or 0) / SAMPLES_PER_RUN or SAMPLE_SECONDS_MAX)

    def _measure(self) -> None:
        if self._loops:
            spared, *others = (loop.pid for loop in self._loops)
            self.gauge.look(spared=spared, others=others)

    def _keep_busy(self) -> None:
        self._loops = [loop for loop in self._loops if loop.poll() is None or self._bury(loop)]
        while len(self._loops) < ORCHESTRATORS:
            output = self.project.root / f"loop-{next(self._counter)}.log"  # not a pipe: it would be full some day
            self._loops.append(self.project.start("orchestrate", "--workers", "1", output=output))
            self._outputs[self._loops[-1]] = output
        with suppress(psycopg.OperationalError):
            live = self.project.rows("SELECT count(*) FROM task WHERE finished_at IS NULL")[0][0]
            unseen = len(self.tally.issues) - self.project.rows("SELECT count(*) FROM task")[0][0]
            if live + unseen < OPEN_ISSUES:
                self._open_issue()
            if len(self._victims) < VICTIMS:
                self._start_victim()

    def _bury(self, loop: subprocess.Popen[str]) -> bool:
        if self.plan.is_one_spared and loop is self._loops[0]:
            self.tally.bugs.append(f"the loop that was spared ended with {loop.returncode}")
        self._judge(loop, "loop")
        return False

    def _mortal(self) -> list[subprocess.Popen[str]]:
        return self._loops[1:] if self.plan.is_one_spared else self._loops

    def _judge(self, child: subprocess.Popen[str], what: str) -> None:
        """How it ended; a bug in Tamma is one whatever was done to it."""
        out, err = (text or "" for text in child.communicate())
        if output := self._outputs.pop(child, None):
            err = output.read_text(errors="replace")
            output.unlink()
        self.tally.codes[f"{what} {child.returncode}"] += 1
        said = out + err
        # Nothing while Python was still beginning; or why the loop could not begin, just before it ended.
        is_asked_too_early = child.returncode == -signal.SIGTERM and (not said or said.startswith("tamma: "))
        if (child.returncode not in ENDS and not is_asked_too_early) or "Traceback" in said:
            self.tally.bugs.append(
                f"{what} ended with {child.returncode}: {err[-1000:] or out[-1000:]}{_traceback(err)}"
            )

    def _open_issue(self) -> None:
        number, name = str(len(self.tally.issues) + 1), self._chance.choice(sorted(self.plan.issues))
        self.project.issue(number, name=name, **self.plan.issues[name])
        self.tally.issues[number] = name

    def _start_victim(self) -> None:
        """A worker that will die at a named place, or after a while wherever it is."""
        free = self.project.rows(
            "SELECT id FROM task WHERE state IN ('queued', 'retryable') AND dispatched_by IS NULL AND crashes < %s ORDER BY id",
            KILLS_PER_ISSUE,
        )
        if not free:
            return
        task = self._chance.choice(free)[0]
        if self._chance.random() < 0.75:
            place, at = self._aim(), None
            points = f"{place}=kill"
        else:
            place, at, points = "", time.monotonic() + self._chance.uniform(0.5, 3.5), self._misheard()
        child = self.project.start("work", "--task-id", task, env={"TAMMA_FAILPOINTS": points})
        self._victims[child] = (place, at)

    def _misheard(self) -> str:
        """What the forge answers the worker at one of its calls, before its effect or after."""
        place, answer = self._chance.choice(sorted(FORGE_POINTS)), self._chance.choice(ANSWERS)
        self.tally.faults["forge answers"] += 1
        return f"{place}={answer}"

    def _aim(self) -> str:
        """Any place; every other time one of the phase that has met the fewest kills, so that none starves."""
        if self._chance.random() < 0.5:
            return self._chance.choice(PLACES)
        fewest = min(self.tally.phases[_phase(place)] for place in PLACES)
        return self._chance.choice([place for place in PLACES if self.tally.phases[_phase(place)] == fewest])

    def _look_at_victims(self) -> None:
        for victim, (place, at) in list(self._victims.items()):
            if victim.poll() is None:
                if at is not None and time.monotonic() >= at:
                    self._victims[victim] = (self._phase_of(victim.pid), None)
                    victim.kill()
                continue
            if victim.returncode == -signal.SIGKILL:
                self._count("worker", _phase(place))
            self._judge(victim, "work")
            del self._victims[victim]

    def _phase_of(self, pid: int) -> str:
        with suppress(psycopg.OperationalError):
            found = self.project.rows("SELECT phase FROM task WHERE worker ~ %s", f":{pid}:")
            return (found[0][0] or "claim") if found else "start"
        return "unknown"

    def _count(self, who: str, phase: str) -> None:
        self.tally.kills[who] += 1
        self.tally.phases[phase or "unknown"] += 1

    # Faults

    def _workers(self, *, crashes_max: int = sys.maxsize) -> list[int]:
        """Pids of the workers that the loops started, for tasks that crashed no more often than that."""
        found = []
        running = "SELECT worker FROM task WHERE state = 'running' AND crashes <= %s ORDER BY id"
        for (worker,) in self.project.rows(running, crashes_max):
            pid = int(re.split(":", worker)[-2])
            if pid not in {victim.pid for victim in self._victims} and _is_ours(pid, str(self.project.root)):
                found.append(pid)
        return found

    def _kill_loop(self) -> None:
        if loops := self._mortal():
            self._chance.choice(loops).kill()
            self._count("orchestrator", "loop")

    def _ask_loop(self) -> None:
        """It drains; its place is taken at its end."""
        if loops := self._mortal():
            self._chance.choice(loops).terminate()
            self.tally.faults["loops asked to stop"] += 1

    def _kill_any_worker(self) -> None:
        # The oldest task is always taken up again first: on a slow machine it would be killed until its budget is spent.
        if workers := self._workers(crashes_max=KILLS_PER_ISSUE):
            pid = self._chance.choice(workers)
            phase = self._phase_of(pid)
            if _signal(pid, signal.SIGKILL):
                self._count("worker", phase)

    def _stop_someone(self) -> None:
        """A worker asleep for longer than its lease: somebody else takes its task, and it wakes up as a zombie. Or a loop."""
        awake = [child.pid for child in (*self._victims, *self._mortal()) if child.poll() is None] + self._workers()
        if awake and _signal(pid := self._chance.choice(sorted(awake)), signal.SIGSTOP):
            self._asleep.append((time.monotonic() + LEASE_SECONDS * self._chance.uniform(0.5, 2), pid))
            self.tally.faults["stopped"] += 1

    def _wake(self, *, all_of_them: bool) -> None:
        for at, pid in list(self._asleep):
            if all_of_them or time.monotonic() >= at:
                _signal(pid, signal.SIGCONT)
                self._asleep.remove((at, pid))

    def _ask_worker(self) -> None:
        if (workers := self._workers()) and _signal(self._chance.choice(workers), signal.SIGTERM):
            self.tally.faults["workers asked to stop"] += 1

    def _cut_connections(self) -> None:
        with psycopg.connect(self.project.database_url, autocommit=True) as connection:
            self.tally.faults["connections cut"] += len(connection.execute(_OTHERS).fetchall())

    def _restart_database(self) -> None:
        if self.plan.restart_database is not None:
            self.plan.restart_database()
            self.tally.faults["database restarted"] += 1


def _traceback(told: str) -> str:
    """The file that a bug's report names, while it is there."""
    with suppress(OSError):
        return "".join(Path(name).read_text()[-4000:] for name in re.findall(r"report it with (\S+)", told))
    return ""


def _phase(place: str) -> str:
    return place.partition(".")[0]


def _is_ours(pid: int, root: str) -> bool:
    with suppress(OSError):
        return root == str(Path(f"/proc/{pid}/cwd").readlink())
    return False


def _signal(pid: int, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
