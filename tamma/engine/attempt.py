"""One live attempt as every phase sees it: its task, its lease, and the only ways to write and to stop."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tamma.core.attempt import PHASES, Phase
from tamma.core.errors import ExitCode, RefusedByPolicy, TransientError
from tamma.core.event import AttemptFact
from tamma.core.ids import branch_name
from tamma.engine.heartbeat import Heartbeat
from tamma.engine.plan import WorkerDeps
from tamma.ports.store import Claim

PAUSE_POLL: Final = timedelta(seconds=1)


class Interrupted(Exception):
    """The process was asked to stop; the lease is released and the attempt not charged."""

    def __init__(self, exit_code: ExitCode) -> None:
        super().__init__("interrupted")
        self.exit_code = exit_code


class Attempt:
    """A claimed task under a lease that a heartbeat keeps alive."""

    def __init__(self, deps: WorkerDeps, *, claim: Claim, heartbeat: Heartbeat) -> None:
        self.deps = deps
        self.task = claim.task
        self.lease = claim.lease
        self.plan = deps.plan_for(claim.task.ref.repository)
        self.branch = branch_name(claim.task.ref)
        self.tag = f"{claim.task.id}:{claim.lease.epoch}"
        self._heartbeat = heartbeat
        self._phase: Phase | None = None

    def enter(self, phase: Phase) -> None:
        """Go on to the next phase, unless the attempt must stop."""
        assert phase in PHASES[self._phase], (self._phase, phase)
        self.check()
        self.deps.fail_points.reach(f"{phase}.before_enter")
        self.deps.store.claims.enter(self.lease, phase)
        self._phase = phase
        self.deps.fail_points.reach(f"{phase}.after_enter")

    def record(self, fact: AttemptFact) -> None:
        """A fact of this attempt."""
        self.deps.store.claims.record(self.lease, fact)

    def should_stop(self) -> bool:
        """What running children are asked by."""
        return self.deps.interruption.is_set or self._heartbeat.is_over

    def check(self) -> None:
        """Raises Interrupted, LeaseLost or TaskCancelled if the attempt must stop."""
        self._heartbeat.check()
        if self.deps.interruption.is_set:
            raise Interrupted(self.deps.interruption.exit_code)

    def stopped(self) -> TransientError:
        """A child was stopped because the attempt had to: raises what ``check`` raises. The error to raise where the lease was
        given up for lost and came back meanwhile, so that what the child did not finish is nobody's fault."""
        self.check()
        return TransientError(
            "the attempt was stopped",
            why="its lease could not be renewed for a while (the database was away)",
            fix="nothing: it is tried again",
        )

    def wait_while_paused(self) -> bool:
        """Hold still, with lease and work, until nobody holds work back any more; whether there was a pause at all.

        Raises what ``check`` raises.
        """
        has_waited = False
        while self.deps.store.pauses.of(self.task.ref) is not None:
            has_waited = True
            self.check()
            self.deps.clock.pause(PAUSE_POLL)
        return has_waited

    def prove_lease(self) -> None:
        """As ``check``, and at the database now: not by what we remember."""
        self.check()
        self.deps.store.claims.renew(self.lease, duration=self.deps.policies.leases.duration).check()


def refuse(sentences: tuple[str, ...]) -> RefusedByPolicy:
    """The error for a tree that must not be delivered; what to do about it is the task's next step."""
    return RefusedByPolicy("the change was refused", why="; ".join(sentences))
