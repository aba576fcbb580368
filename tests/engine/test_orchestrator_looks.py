"""What the loop looks at in how many ticks, when it may say that nothing is left, and what it tells about the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from tamma.adapters.postgres.store import PostgresStore
from tamma.core.attempt import Outcome, judge
from tamma.core.errors import ConfigError, ExitCode, TransientError
from tamma.core.ids import BlobId, IssueRef, WorkerId
from tamma.core.issue import IssueState
from tamma.core.policy import Limits, Order, SelectionPolicy
from tamma.core.task import Notice, TaskState
from tamma.engine.explain import Explainer
from tamma.engine.orchestrator import Mode
from tamma.ports.forge import IssuePage
from tamma.ports.store import TaskDraft
from tests.contracts.memory_forge import MemoryForge
from tests.engine.loop_world import a_loop
from tests.support.crowd import Idlers, a_loop_over

PAGES_OF_TWO = Limits(candidates=2)
CROWD = 7


def a_crowded_forge() -> tuple[MemoryForge, IssueRef]:
    """The youngest issue is the only eligible one; before it come four pages of two."""
    forge = MemoryForge(name="local")
    for _ in range(CROWD):
        forge.add_issue(labels=("tamma", "wontfix"))
    return forge, forge.add_issue()


def test_every_eligible_issue_is_reached_within_a_round_of_ticks(store: PostgresStore, tmp_path: Path) -> None:
    """However many ineligible ones are older: one page per tick, and the next tick goes on behind it."""
    forge, young = a_crowded_forge()
    loop = a_loop(store, forge, tmp_path, limits=PAGES_OF_TWO, workers_max=0)
    for _ in range(4):
        assert loop.intake.newest(young) is None
        assert len(loop.observer.observe(slots=0).view.prospects) == 2
    for _ in range(4):
        loop.tick()
    assert loop.intake.newest(young) is not None


@pytest.mark.parametrize(("order", "first"), [(Order.OLDEST, 0), (Order.NEWEST, CROWD), (Order.PRIORITY, CROWD - 2)])
def test_the_order_of_selection_holds_over_all_pages(
    store: PostgresStore, tmp_path: Path, order: Order, first: int
) -> None:
    """The only slot goes to the issue that is first of all, however many pages of others are older."""
    forge = MemoryForge(name="local")
    refs = [forge.add_issue(labels=("tamma", "priority:1") if n == CROWD - 2 else ("tamma",)) for n in range(CROWD + 1)]
    loop = a_loop_over(store, forge, limits=PAGES_OF_TWO, selection=SelectionPolicy(order=order))
    loop.tick()
    assert isinstance(loop.dispatcher, Idlers)
    assert [store.tasks.get(task).ref for task in loop.dispatcher.started] == [refs[first]]


@pytest.mark.parametrize("mode", [Mode.ONCE, Mode.UNTIL_IDLE])
def test_who_does_not_stay_looks_at_every_page(store: PostgresStore, tmp_path: Path, mode: Mode) -> None:
    """Nothing is idle before all pages were seen; and a loop that runs once each minute starves nobody either."""
    forge, young = a_crowded_forge()
    loop = a_loop(store, forge, tmp_path, limits=PAGES_OF_TWO, workers_max=1 if mode is Mode.UNTIL_IDLE else 0)
    try:
        loop.run(mode)
    except ConfigError as error:
        assert "before they took it" in str(error)  # noqa: PT017 — only one of the two modes insists on an end
    assert loop.intake.newest(young) is not None


class EndsMeanwhile(MemoryForge):
    """Something happens between the look at its issues and whatever is asked next."""

    meanwhile: Callable[[], object] | None = None

    def open_issues(self, *args: Any, **kwargs: Any) -> IssuePage:
        """The page, and then what was to happen, once."""
        page = super().open_issues(*args, **kwargs)
        happen, self.meanwhile = self.meanwhile, None
        if happen is not None:
            happen()
        return page


def test_a_task_that_ends_while_the_loop_looks_is_not_taken_for_asked_again(
    store: PostgresStore, tmp_path: Path
) -> None:
    """The label was read before the worker told the issue and took it off; the task was read after."""
    forge = EndsMeanwhile(name="local")
    ref = forge.add_issue()
    loop = a_loop(store, forge, tmp_path, workers_max=0)
    loop.tick()
    task = loop.intake.newest(ref)
    assert task is not None

    def end() -> None:
        claim = store.claims.claim(task.id, worker=WorkerId("here:2:boot"), duration=timedelta(minutes=1))
        refused = judge(Outcome.REFUSED, claim.task.counters, loop.policies.retry, chance=0)
        loop.herald.tell(store.claims.settle(claim, refused, reason="a secret"))

    forge.meanwhile = end
    loop.tick()
    assert "tamma" not in forge.issue(ref).labels
    newest = loop.intake.newest(ref)
    assert newest is not None
    assert (newest.generation, newest.state, newest.notice) == (1, TaskState.FAILED, None)
    forge.change_labels(ref, add=("tamma",), remove=())
    loop.tick()
    again = loop.intake.newest(ref)
    assert again is not None
    assert again.generation == 2, "now a human asks"


def test_every_live_task_is_asked_whether_it_may_go_on(store: PostgresStore, tmp_path: Path) -> None:
    """Also those that the others hide, in whatever order they come."""
    forge = MemoryForge(name="local")
    refs = [forge.add_issue() for _ in range(CROWD)]
    loop = a_loop(store, forge, tmp_path, limits=PAGES_OF_TWO, workers_max=0)
    tasks = sorted((loop.intake.find_or_create(ref, asked_by="ann") for ref in refs), key=lambda task: task.id)
    for task in tasks[-1], tasks[0]:
        forge.set_issue(task.ref, state=IssueState.CLOSED)
        for _ in range(4):
            loop.tick()
        assert store.tasks.get(task.id).state is TaskState.CANCELLED


def test_tasks_of_others_keep_nobody_busy(store: PostgresStore, tmp_path: Path) -> None:
    """A database may serve other installations: what waits there is not for this loop."""
    loop = a_loop(store, MemoryForge(name="local"), tmp_path)
    elsewhere = IssueRef(forge="elsewhere", repository="demo", number="1")
    store.tasks.create(TaskDraft(ref=elsewhere, title="t", digest="d", snapshot=BlobId("b"), asked_by="label"))
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.DELIVERED


def test_an_unfit_repository_gets_no_tasks_and_no_workers(store: PostgresStore, tmp_path: Path) -> None:
    """Each would only end blocked; what waits there from better days goes on waiting, and keeps nobody busy."""
    forge = MemoryForge(name="local", repositories=("bad",))
    loop = a_loop(store, forge, tmp_path)
    waiting = loop.intake.find_or_create(forge.add_issue(repository="bad"), asked_by="label")
    new = forge.add_issue(repository="bad")
    unfit = replace(loop.intake, unfit={"bad": ConfigError("no agent is configured", fix="set agent.argv")})
    loop.intake = loop.observer.intake = unfit
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.DELIVERED
    assert (loop.intake.newest(new), store.tasks.get(waiting.id).version) == (None, 1)
    with pytest.raises(ConfigError, match="no agent"):
        loop.intake.find_or_create(new, asked_by="ann")
    explainer = Explainer(store=store, forge=forge, intake=unfit, policies=loop.policies)
    for told in (explainer.issue(new).status, explainer.task(waiting.id).status):
        assert "its repository cannot be worked on: no agent is configured" in told


def away(forge: MemoryForge, when: Iterator[bool]) -> None:
    """Each look at the issues asks ``when`` whether the forge is away."""
    real: Callable[..., IssuePage] = forge.open_issues

    def open_issues(repository: str, **asked: Any) -> IssuePage:
        if next(when):
            raise TransientError("the forge is away", why="503")
        return real(repository, **asked)

    forge.open_issues = open_issues  # type: ignore[method-assign]


def test_idle_with_a_repository_away_is_temporary_and_said(store: PostgresStore, tmp_path: Path) -> None:
    """After one more look: not 0, since there may be work, and not for ever."""
    forge = MemoryForge(name="local")
    looks = iter([True, True])
    away(forge, looks)
    loop = a_loop(store, forge, tmp_path)
    told: list[str] = []
    loop.report = told.append
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.TEMPORARY
    assert told == [
        "repository demo is skipped for now: the forge is away: 503",
        "nothing is left to do, but this could not be looked at: demo",
    ]
    assert not list(looks)


def test_a_repository_that_comes_back_is_looked_at(store: PostgresStore, tmp_path: Path) -> None:
    """The second look decides."""
    forge = MemoryForge(name="local")
    away(forge, chain([True], repeat(False)))
    assert a_loop(store, forge, tmp_path).run(Mode.UNTIL_IDLE) is ExitCode.DELIVERED


def test_an_issue_that_cannot_be_told_for_now_is_temporary_too(store: PostgresStore, tmp_path: Path) -> None:
    """Its notice is still to be delivered."""
    forge = MemoryForge(name="local")
    loop = a_loop(store, forge, tmp_path)
    task = loop.intake.find_or_create(forge.add_issue(), asked_by="ann")
    store.tasks.cancel(task.id, by="ann", reason="enough", notice=Notice.CANCELLED)

    def comment(_ref: IssueRef, **_: str) -> None:
        raise TransientError("the forge takes no comments", why="503")

    forge.comment = comment  # type: ignore[method-assign, assignment]
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.TEMPORARY


def test_a_trouble_is_told_once_and_again_when_it_recurs(store: PostgresStore, tmp_path: Path) -> None:
    """While it lasts it is known; after a whole round without it, it is news."""
    forge = MemoryForge(name="local")
    away(forge, iter([True, True, False, False, True, True]))
    loop = a_loop(store, forge, tmp_path)
    told: list[int] = []
    loop.report = lambda _line: told.append(tick)
    for tick in range(6):  # noqa: B007 — read by the report
        loop.tick()
    assert told == [0, 4]
