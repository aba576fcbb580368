"""One seeded run: who acts next, who dies, how time passes; and what must hold after every step and at the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tamma.core.errors import NotClaimable
from tamma.core.ids import IssueRef, TaskId, WorkerId
from tamma.core.task import LIVE, TaskState
from tests.simulation.actors import Forge, Violation, World, create, orchestrator, worker
from tests.simulation.model import BEGIN, Rules

ISSUES = 4
LOOPS = 2
STEPS = 220
QUIET_STEPS_MAX = 2_000
# Seconds between two steps: in quiet an attempt comes to its end within its lease, in the storm not always.
IN_STORM = (0, 0, 0, 1, 5, 10)
IN_QUIET = (0, 0, 0, 1)


@dataclass(slots=True, kw_only=True)
class Run:
    """``set_clock`` moves the store's time. Used once."""

    seed: int
    store: Any
    set_clock: Callable[[datetime], None]
    rules: Rules = field(default_factory=Rules)
    trace: list[str] = field(default_factory=list)
    now: datetime = BEGIN
    chance: random.Random = field(init=False)
    world: World = field(init=False)
    _live: dict[str, Iterator[str]] = field(default_factory=dict)
    _start: list[TaskId] = field(default_factory=list)
    _asleep: dict[str, int] = field(default_factory=dict)
    _born: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.world = World(store=self.store, forge=Forge(rules=self.rules), chance=self.chance)
        for n in range(1, ISSUES + 1):
            self.world.refs[str(n)] = IssueRef(forge="local", repository="demo", number=str(n))
            self.world.forge.labelled[str(n)] = True

    def storm(self) -> None:
        """Steps with every fault there is."""
        for _ in range(STEPS):
            self._one_step(with_faults=True)
            self._check()

    def quiet(self) -> None:
        """No more faults: everything must come to an end (liveness), and nobody may be left waiting."""
        for number in self.world.refs:
            self.world.forge.labelled[number] = True
        for _ in range(QUIET_STEPS_MAX):
            if self._is_at_rest():
                return
            for task in self.world.tasks:
                if self.store.tasks.get(task).state is TaskState.BLOCKED:
                    self.store.tasks.unblock(task, by="ann")
            self._one_step(with_faults=False)
            self._check()
        raise Violation(f"not at rest: {[(t, self.store.tasks.get(t).state) for t in self.world.tasks]}")

    def _is_at_rest(self) -> bool:
        tasks = [self.store.tasks.get(task) for task in self.world.tasks]
        is_told = all(task.notice is None for task in tasks)
        succeeded = {task.ref.number for task in tasks if task.state is TaskState.SUCCEEDED}
        return is_told and not any(task.state in LIVE for task in tasks) and succeeded == set(self.world.refs)

    def _one_step(self, *, with_faults: bool) -> None:
        self._pass_time(timedelta(seconds=self.chance.choice(IN_STORM if with_faults else IN_QUIET)))
        roll = self.chance.random()
        if with_faults and roll < 0.12:
            self._fault()
        elif roll < 0.3 or not self._live:
            self._begin()
        self._asleep = {name: left - 1 for name, left in self._asleep.items() if left and with_faults}
        if awake := sorted(self._live.keys() - self._asleep.keys()):
            self._advance(self.chance.choice(awake))

    def _pass_time(self, by: timedelta) -> None:
        self.now = self.world.now = self.now + by
        self.set_clock(self.now)

    def _begin(self) -> None:
        """Another tick, or a worker for a task that was dispatched."""
        loops = [f"loop{n}" for n in range(LOOPS) if f"loop{n}" not in self._live]
        self._born += 1
        if self._start and (not loops or self.chance.random() < 0.6):
            task = self._start.pop(self.chance.randrange(len(self._start)))
            name = f"worker{self._born}"
            self._live[name] = worker(self.world, WorkerId(f"h:{self._born}:b"), task)
        elif loops:
            name = self.chance.choice(loops)
            self._live[name] = orchestrator(self.world, WorkerId(f"h:{name}:b"), self._start)

    def _advance(self, name: str) -> None:
        try:
            self.trace.append(f"{name} {next(self._live[name])}")
        except StopIteration:
            del self._live[name]

    def _fault(self) -> None:
        """A crash, a stopped process, a long sleep of everybody (all leases run out), a lost dispatch, or a human."""
        kind = self.chance.choice(("crash", "crash", "sleep", "stop", "stop", "lost", "human", "human"))
        self.trace.append(kind)
        if kind == "crash" and self._live:
            del self._live[self.chance.choice(sorted(self._live))]
        elif kind == "stop" and self._live:
            self._asleep[self.chance.choice(sorted(self._live))] = self.chance.randrange(10, 120)
        elif kind == "sleep":
            self._pass_time(timedelta(seconds=self.chance.choice((30, 61, 200))))
        elif kind == "lost" and self._start:
            self._start.pop()
        elif kind == "human":
            self._human()

    def _human(self) -> None:
        number = self.chance.choice(sorted(self.world.refs))
        act = self.chance.choice(("label", "cancel", "unblock", "retry"))
        mine = [t for t in self.world.tasks if self.store.tasks.get(t).ref.number == number]
        if act == "label":
            self.world.forge.labelled[number] = self.chance.random() < 0.7
        elif mine and act == "cancel" and self.chance.random() < 0.3:
            self.store.tasks.cancel(mine[-1], by="ann", reason="enough")
        elif mine and act in {"unblock", "retry"}:
            with suppress(NotClaimable):
                if act == "unblock":
                    self.store.tasks.unblock(mine[-1], by="ann")
                else:
                    create(self.world, self.world.refs[number], len(mine) + 1)

    def _check(self) -> None:
        """After every step, of the world and of the tables."""
        tasks = [self.store.tasks.get(task) for task in self.world.tasks]
        for number in self.world.refs:
            live = [t.id for t in tasks if t.ref.number == number and t.state in LIVE]
            if len(live) > 1:
                raise Violation(f"issue {number} has {len(live)} live tasks")
            owners = [owner for owner, _ in self.world.forge.changes[number]]
            if len(owners) != len(set(owners)):
                raise Violation(f"a task of issue {number} has two changes")
        if again := [marker for marker, n in self.world.forge.comments.items() if n > 1]:
            raise Violation(f"told twice: {again}")
        newest = {task.ref.number: task for task in sorted(tasks, key=lambda task: task.generation)}
        for task in newest.values():
            if task.state is TaskState.SUCCEEDED and task.change is not None:
                self._check_delivered(task.id, task.ref.number)

    def _check_delivered(self, task: TaskId, number: str) -> None:
        """The branch is at the commit that the newest change names, and stays there."""
        newest = self.world.forge.changes[number][-1]
        if newest[0] == task and not self.world.forge.branch[number].startswith(task):
            raise Violation(f"issue {number}: the change of {task} is over a branch of another")
        if newest[0] == task and self.world.forge.branch[number] != newest[1] and not self._is_newer(number, newest[1]):
            raise Violation(f"issue {number}: an older attempt moved the branch under the change")

    def _is_newer(self, number: str, commit: str) -> bool:
        return int(self.world.forge.branch[number].rpartition("-")[2]) > int(commit.rpartition("-")[2])
