"""One attempt: prepare → baseline → implement → audit → gates (↔ repair) → publish.

Every phase either goes on or ends the attempt with a ``Verdict``; what cannot be judged here is raised to ``engine.worker``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from tamma.core.attempt import Outcome, Phase, Verdict
from tamma.core.change import Change, ChangeState
from tamma.core.errors import PermanentError, TammaError
from tamma.core.event import ApprovalAsked, EnvironmentPrepared, WorkSalvaged
from tamma.core.ids import Oid
from tamma.core.leaks import without_secrets
from tamma.engine.answers import answers_to
from tamma.engine.attempt import Attempt
from tamma.engine.called_off import why_called_off
from tamma.engine.delivery import Courier, Delivery, marked_head
from tamma.engine.description import Story, change_title, render_description
from tamma.engine.housekeeping import Housekeeper
from tamma.engine.prompts import Snapshot
from tamma.engine.rounds import Rounds, Solution
from tamma.ports.environment import Environment
from tamma.ports.system import Clock
from tamma.ports.workspace import Base, Candidate, Workspace

_SALVAGE_SECONDS: Final = 30.0


class Withheld(Exception):
    """An effect is not wanted any more; the verdict that the attempt ends with."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class Pipeline:
    """One claimed task on its way. Used once."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.deps = attempt.deps
        self.plan = attempt.plan
        self.task = attempt.task
        self.courier = Courier(
            store=attempt.deps.store,
            forge=attempt.deps.forge,
            fail_points=attempt.deps.fail_points,
            task=attempt.task,
            lease=attempt.lease,
            guard=self._clear_to_act,
        )
        self._asked: tuple[Snapshot, Oid] | None = None

    def run(self) -> Verdict:
        """The whole attempt, up to but without its settlement.

        Raises Interrupted, LeaseLost, TaskCancelled, and any TammaError a phase ended with.
        """
        deps = self.deps
        deps.workspaces.heed(self.attempt.should_stop)
        deps.sandbox.sweep(f"{self.task.id}:")
        with suppress(TammaError, OSError):  # whatever it is, it does not stand in this attempt's way
            self._housekeeper().tidy(chance=deps.chance.fraction())
        self.attempt.check()
        self.attempt.enter(Phase.PREPARE)
        changes = deps.forge.changes(self.task.ref.repository, head=self.attempt.branch)
        known = self._known_change(changes)
        if known is not None:
            return self._adopt(known)
        snapshot = self._snapshot()
        base = deps.workspaces.fetch_base(self.plan.remote)
        self._salvage_dead()
        with deps.workspaces.open(
            self.plan.remote, base, task_id=self.task.id, epoch=self.attempt.lease.epoch
        ) as workspace:
            head = workspace.branch_head(self.attempt.branch)
            begun = self.courier.find_pushed(head)
            if begun is not None:
                return self._complete(workspace, snapshot, begun, head=head)
            expected = self.courier.expected_head(head, changes)
            with self._salvaging(workspace), self._environment(workspace, base) as environment:
                return self._resolve(workspace, snapshot, environment, expected=expected)

    def _housekeeper(self) -> Housekeeper:
        deps = self.deps
        return Housekeeper(
            store=deps.store,
            forge=deps.forge,
            workspaces=deps.workspaces,
            sandbox=deps.sandbox,
            redactor=deps.redactor,
            by=deps.identity.id,
        )

    # Prepare

    def _snapshot(self) -> Snapshot:
        raw = self.deps.store.blobs.get(self.task.snapshot)
        if raw is None:
            raise PermanentError(
                f"the pinned text of {self.task.ref} is gone",
                why=f"blob {self.task.snapshot} is not in the store",
                fix=f"`tamma task retry {self.task.id}` pins it anew",
            )
        return Snapshot.from_bytes(raw)

    def _known_change(self, changes: Sequence[Change]) -> Change | None:
        """A change of our own that an earlier attempt at this very task opened, whatever became of it since."""
        ours = [c for c in changes if c.author == self.deps.forge.user]
        return next((c for c in ours if marked_head(c, self.task.id) is not None), None)

    def _adopt(self, change: Change) -> Verdict:
        """An earlier attempt got as far as the change: record what is there, and do nothing twice."""
        if change.state is ChangeState.CLOSED:
            return Verdict(outcome=Outcome.CANCELLED, reason=f"change {change.id} was closed unmerged: do not redo")
        commit = marked_head(change, self.task.id)
        assert commit is not None
        self.attempt.enter(Phase.PUBLISH)
        self.courier.record_found(commit, {"change": change.id, "url": change.url, "found": "yes"})
        self.courier.conclude(self.courier.delivered(commit, change=change.id, url=change.url))
        return Verdict(
            outcome=Outcome.DELIVERED, reason=f"change {change.id} ({change.url}), opened by an earlier attempt"
        )

    @contextmanager
    def _environment(self, workspace: Workspace, base: Base) -> Iterator[Environment | None]:
        plan, deps = self.plan, self.deps
        with deps.environments.prepare(
            plan.environment,
            read_input=lambda path: deps.workspaces.read_file(plan.remote, base.commit, path),
            checkout=lambda: workspace.checkout(base.tree, name="setup"),
            tag=self.attempt.tag,
            should_stop=self.attempt.should_stop,
        ) as environment:
            self.attempt.check()
            if environment is not None:
                ms = int(environment.duration.total_seconds() * 1000)
                self.attempt.record(
                    EnvironmentPrepared(
                        epoch=self.attempt.lease.epoch,
                        key=environment.key,
                        is_cached=environment.is_cached,
                        duration_ms=ms,
                    )
                )
            yield environment

    # Resolve and publish

    def _resolve(
        self, workspace: Workspace, snapshot: Snapshot, environment: Environment | None, *, expected: Oid | None
    ) -> Verdict:
        solution = Rounds(
            self.attempt,
            workspace=workspace,
            snapshot=snapshot,
            environment=environment,
            answers=answers_to(self.task.id, self.deps.store),
        ).run()
        if isinstance(solution, Verdict):
            return solution
        stop = self._word_from_the_issue(snapshot, solution.candidate.commit)
        if stop is not None:
            if stop.outcome is Outcome.BLOCKED:
                self._ask_approval(solution.candidate.commit)
            return stop
        if self.plan.change.approve_before_publish and self.task.approved != solution.candidate.commit:
            self._ask_approval(solution.candidate.commit)
            reason = f"commit {solution.candidate.commit} passed its gates and waits for approval"
            return Verdict(outcome=Outcome.BLOCKED, reason=reason)
        delivery = self._delivery(workspace, snapshot, solution)
        return self._publish(workspace, snapshot, delivery, expected=expected)

    def _complete(self, workspace: Workspace, snapshot: Snapshot, begun: Delivery, *, head: Oid | None) -> Verdict:
        """An earlier attempt pushed its branch: only the change is missing."""
        stop = self._word_from_the_issue(snapshot, begun.commit)
        if stop is not None:
            if stop.outcome is Outcome.BLOCKED:
                self._ask_approval(begun.commit, is_pushed=True)
            return stop
        return self._publish(workspace, snapshot, begun, expected=head)

    def _word_from_the_issue(self, snapshot: Snapshot, commit: Oid) -> Verdict | None:
        """The last look before anything shows outside: never a surprise change."""
        issue = self.deps.forge.issue(self.task.ref)
        reason = why_called_off(self.deps.forge, issue, self.task, self.deps.policies.selection)
        if reason:
            return Verdict(outcome=Outcome.CANCELLED, reason=reason)
        if issue.digest != snapshot.digest and self.task.approved != commit:
            return Verdict(
                outcome=Outcome.BLOCKED,
                reason="the issue was edited after its task was created, so this change answers the older text; "
                f"`tamma task retry {self.task.id}` resolves the new one, approving publishes this one",
            )
        return None

    def _ask_approval(self, commit: Oid, *, is_pushed: bool = False) -> None:
        """Hold the commit until a human decided about it; one that is pushed is held by its branch."""
        if not is_pushed:
            self.deps.workspaces.keep(self.plan.remote, commit, name=self.task.id)
        self.attempt.record(ApprovalAsked(epoch=self.attempt.lease.epoch, commit=commit))

    def _delivery(self, workspace: Workspace, snapshot: Snapshot, solution: Solution) -> Delivery:
        story = Story(
            task=self.task,
            solution=solution,
            base=workspace.base,
            agent=self.plan.agent.name,
            sandbox=self.deps.sandbox.name,
            gates=self.plan.gates,
            setup=self.plan.environment.setup,
        )
        text = self.deps.redactor(render_description(story))
        return Delivery(
            commit=solution.candidate.commit,
            branch=self.attempt.branch,
            base=workspace.base.branch,
            title=self.deps.redactor(change_title(snapshot, self.task)),
            description=self.deps.store.blobs.put(text.encode()),
            is_draft=self.plan.change.is_draft,
        )

    def _publish(
        self, workspace: Workspace, snapshot: Snapshot, delivery: Delivery, *, expected: Oid | None
    ) -> Verdict:
        self.attempt.enter(Phase.PUBLISH)
        self._asked = (snapshot, delivery.commit)
        if workspace.branch_head(self.attempt.branch) == delivery.commit:
            self.courier.record_found(delivery.commit, {"commit": delivery.commit, "found": "yes"}, only_push=True)
        try:
            self.courier.push(workspace, delivery, expected=expected)
            fact = self.courier.open_change(delivery)
        except Withheld as withheld:
            if withheld.verdict.outcome is Outcome.BLOCKED:
                self._ask_approval(delivery.commit, is_pushed=expected == delivery.commit)
            return withheld.verdict
        self.courier.conclude(fact)
        return Verdict(outcome=Outcome.DELIVERED, reason=f"change {fact.change} ({fact.url})")

    def _clear_to_act(self) -> None:
        """Right before an effect: not while work is paused, not against what the issue says after a pause, and not without
        the lease."""
        if self.attempt.wait_while_paused() and self._asked is not None:
            verdict = self._word_from_the_issue(*self._asked)
            if verdict is not None:
                raise Withheld(verdict)
        self.attempt.prove_lease()

    # Salvage

    @contextmanager
    def _salvaging(self, workspace: Workspace) -> Iterator[None]:
        """Work that is not delivered is kept as a patch, however the attempt ends."""
        try:
            yield
        finally:
            if self._is_undelivered():
                self.deps.workspaces.heed(_patiently(self.attempt.should_stop, self.deps.clock))
                with suppress(TammaError):
                    self._salvage(workspace)

    def _is_undelivered(self) -> bool:
        try:
            return self.deps.store.tasks.get(self.task.id).change is None
        except TammaError:
            return True

    def _salvage(self, workspace: Workspace) -> None:
        self._keep_patch(workspace.capture(message="salvaged by Tamma"))

    def _salvage_dead(self) -> None:
        """What attempts that were killed on this machine left, before their folders are removed."""
        found = self.deps.workspaces.salvage(self.plan.remote, task_id=self.task.id, epoch=self.attempt.lease.epoch)
        for candidate in found:
            self._keep_patch(candidate)

    def _keep_patch(self, candidate: Candidate) -> None:
        kept = without_secrets(candidate.patch, self.deps.redactor)
        if not kept:
            return
        patch = self.deps.store.blobs.put(kept)
        epoch = self.attempt.lease.epoch
        fact = WorkSalvaged(epoch=epoch, base=candidate.base, patch=patch, files=len(candidate.changes))
        self.deps.store.claims.salvage(self.attempt.lease, fact)


def _patiently(should_stop: Callable[[], bool], clock: Clock) -> Callable[[], bool]:
    """Who is asked to stop may still take some seconds to keep the work."""
    asked: list[float] = []

    def is_over() -> bool:
        if not should_stop():
            return False
        asked[:] = asked or [clock.monotonic()]
        return clock.monotonic() - asked[0] > _SALVAGE_SECONDS

    return is_over
