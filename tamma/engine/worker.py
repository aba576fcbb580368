"""Executes exactly one task: claim, hold the lease, run the pipeline, settle once, tell the issue.

Every way an attempt can end becomes one ``Outcome`` here and nowhere else.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from tamma.core.attempt import Outcome, Phase, Verdict, judge
from tamma.core.errors import (
    ConfigError,
    ExitCode,
    LeaseLost,
    NoSuchTask,
    NotClaimable,
    PermanentError,
    RefusedByPolicy,
    TammaError,
    TaskCancelled,
    TransientError,
    of_os_error,
)
from tamma.core.ids import TaskId
from tamma.core.lease import LEASE_RAN_OUT
from tamma.core.pause import Paused
from tamma.core.redact import bounded, clean
from tamma.core.task import Task
from tamma.engine.attempt import Attempt, Interrupted
from tamma.engine.heartbeat import Heartbeat
from tamma.engine.next_step import next_step
from tamma.engine.notices import Herald
from tamma.engine.pipeline import Pipeline
from tamma.engine.plan import WorkerDeps
from tamma.ports.environment import SetupFailed
from tamma.ports.store import Claim, WorkerRole, WorkerState

REASON_BYTES_MAX = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkResult:
    """What ``tamma work`` says and exits with. ``bug`` is a traceback for the log, empty unless Tamma itself is at fault."""

    exit_code: ExitCode
    reason: str
    task: Task | None = None
    fix: str = ""
    bug: str = ""


def work(task_id: TaskId, deps: WorkerDeps) -> WorkResult:
    """One attempt at one task, from claim to report.

    Raises NoSuchTask, NotClaimable or TransientError if the task could not be claimed; everything later is a result.
    """
    if (pause := deps.store.pauses.of(deps.store.tasks.get(task_id).ref)) is not None:
        raise Paused(pause)
    with _registered(deps):
        asked_at = deps.clock.monotonic()  # before the request: the lease runs from there, whenever the answer comes
        claim = _claim(task_id, deps)
        deps.fail_points.reach("claim.after_record")
        result = _hold(claim, deps, asked_at=asked_at)
        if result.task is not None and result.task.notice is not None:
            result = _tell(result, result.task, deps)
        return result


def _claim(task_id: TaskId, deps: WorkerDeps) -> Claim:
    """The task; after its last attempt is ended, where that one's lease is over: no loop need be there to do it."""

    def claim() -> Claim:
        return deps.store.claims.claim(task_id, worker=deps.identity.id, duration=deps.policies.leases.duration)

    try:
        return claim()
    except NotClaimable:
        task = deps.store.tasks.get(task_id)
        decision = judge(Outcome.CRASHED, task.counters, deps.policies.retry, chance=deps.chance.fraction())
        ended = deps.store.claims.reap(
            task_id, epoch=task.epoch, decision=decision, by=deps.identity.id, reason=LEASE_RAN_OUT
        )
        if ended is None:
            raise
        if ended.notice is not None:
            _herald(deps).tell(ended)
        return claim()


def _tell(result: WorkResult, task: Task, deps: WorkerDeps) -> WorkResult:
    """Tell the issue. What is settled stays settled, and its exit code too: the orchestrator's next tick tells what this did not."""
    try:
        _herald(deps).tell(task)
    except TammaError:
        return result
    except Exception as error:  # noqa: BLE001 — the attempt is settled; a bug here is reported, and changes nothing of it
        return replace(result, bug=result.bug or _bug_report(error))
    return result


@contextmanager
def _registered(deps: WorkerDeps) -> Iterator[None]:
    me = deps.identity
    deps.store.workers.register(
        me.id, host=me.host, pid=me.pid, role=WorkerRole.WORKER, release=me.release, capabilities=me.capabilities
    )
    try:
        yield
    finally:
        with suppress(TammaError):  # a dead registration is found by its missing beats, and what was settled stays so
            deps.store.workers.change_state(me.id, WorkerState.GONE, reason="finished")


def _herald(deps: WorkerDeps) -> Herald:
    return Herald(
        store=deps.store,
        forge=deps.forge,
        fail_points=deps.fail_points,
        by=deps.identity.id,
        leases=deps.policies.leases,
        trigger=deps.policies.selection.trigger,
    )


def _hold(claim: Claim, deps: WorkerDeps, *, asked_at: float) -> WorkResult:
    """Run the pipeline under the lease, and settle what came of it."""
    with Heartbeat(
        open_store=deps.open_store,
        lease=claim.lease,
        policy=deps.policies.leases,
        clock=deps.clock,
        asked_at=asked_at,
        drain=partial(_drain, deps),
    ) as beat:
        verdict, failure = _attempt(claim, deps, beat)
        if isinstance(failure, LeaseLost | TaskCancelled):
            return _give_up(failure, claim, deps)
        try:
            beat.check()
            result = _settle(
                claim, verdict, deps, exit_code=ExitCode.USAGE if isinstance(failure, ConfigError) else None
            )
        except (LeaseLost, TaskCancelled) as error:
            return _give_up(error, claim, deps)
        except TransientError as error:
            return WorkResult(
                exit_code=error.exit_code,
                reason=_told_safely(f"{verdict.reason}; could not settle: {error}", deps),
                fix=error.fix,
                bug=_bug_report(failure),
            )
    return _explain(result, failure, deps)


def _drain(deps: WorkerDeps) -> None:
    """As at a SIGTERM; a signal that came first has its own exit code."""
    if not deps.interruption.is_set:
        deps.interruption.set(ExitCode.SIGTERM)


def _attempt(claim: Claim, deps: WorkerDeps, beat: Heartbeat) -> tuple[Verdict, BaseException | None]:
    """The verdict, and the exception behind it if there was one."""
    try:
        return _run(Attempt(deps, claim=claim, heartbeat=beat)), None
    except Interrupted as error:
        return Verdict(
            outcome=Outcome.INTERRUPTED, reason="interrupted by a signal", signal_exit=error.exit_code
        ), error
    except (LeaseLost, TaskCancelled) as error:
        return Verdict(outcome=Outcome.LEASE_LOST, reason=str(error)), error
    except TransientError as error:
        return Verdict(outcome=Outcome.UNAVAILABLE, reason=_told(error), retry_after=error.retry_after), error
    except RefusedByPolicy as error:
        return Verdict(outcome=Outcome.REFUSED, reason=str(error)), error
    except NoSuchTask as error:
        return Verdict(outcome=Outcome.CANCELLED, reason=f"the issue is gone: {error}"), error
    except (SetupFailed, PermanentError, ConfigError) as error:
        return Verdict(outcome=Outcome.BLOCKED, reason=_told(error)), error
    except OSError as error:
        return _refused_by_the_system(error)
    except Exception as error:  # noqa: BLE001 — the last line of defence: a bug must end as a settled attempt, not a hang
        return _bug(error)


def _refused_by_the_system(error: OSError) -> tuple[Verdict, BaseException]:
    """A full disk passes, a folder that is somebody else's is the operator's; only the rest is ours."""
    told = of_os_error(error, doing="the attempt")
    if told is None:
        return _bug(error)
    told.__cause__ = error
    outcome = Outcome.UNAVAILABLE if isinstance(told, TransientError) else Outcome.BLOCKED
    return Verdict(outcome=outcome, reason=_told(told)), told


def _bug(error: Exception) -> tuple[Verdict, BaseException]:
    return Verdict(outcome=Outcome.CRASHED, reason=f"a bug in Tamma: {type(error).__name__}: {error}"), error


def _run(attempt: Attempt) -> Verdict:
    """The pipeline's verdict. What was stopped on purpose looks to it like something that was away."""
    try:
        return Pipeline(attempt).run()
    except TransientError:
        attempt.check()
        raise


def _told(error: TammaError) -> str:
    return f"{error}. Next: {error.fix}" if error.fix else str(error)


def _give_up(error: LeaseLost | TaskCancelled, claim: Claim, deps: WorkerDeps) -> WorkResult:
    """The lease is over or given up for lost, so nothing is settled under it. Where nobody took the task over (the database was
    away, or this machine stood still), it goes back by this attempt's own word: else it would count as a crash."""
    result = _hand_back(str(error), claim, deps) if isinstance(error, LeaseLost) else None
    return result or _given_up(error, claim)


def _hand_back(why: str, claim: Claim, deps: WorkerDeps) -> WorkResult | None:
    """None if that was not possible: then its parent, or the end of its lease, ends the attempt."""
    counters, chance, me = claim.task.counters, deps.chance.fraction(), deps.identity.id
    decision = judge(Outcome.UNAVAILABLE, counters, deps.policies.retry, chance=chance)
    reason = _told_safely(why, deps)
    with suppress(TammaError):
        task = deps.store.claims.reap(
            claim.task.id, epoch=claim.lease.epoch, decision=decision, by=me, reason=reason, dead=me
        )
        if task is not None:
            return WorkResult(exit_code=decision.exit_code, reason=reason, task=task, fix=next_step(task))
    return None


def _given_up(error: LeaseLost | TaskCancelled, claim: Claim) -> WorkResult:
    """The task is not ours any more, so nothing is settled."""
    return WorkResult(
        exit_code=error.exit_code,
        reason=str(error),
        fix=error.fix or f"nothing here; see `tamma explain {claim.task.id}`",
    )


def _settle(claim: Claim, verdict: Verdict, deps: WorkerDeps, *, exit_code: ExitCode | None) -> WorkResult:
    """The one write that ends the attempt; ``exit_code`` where the operator must act, which the outcome alone does not say."""
    deps.store.claims.enter(claim.lease, Phase.REPORT)  # which may follow any phase, and none (core.attempt.PHASES)
    decision = judge(
        verdict.outcome,
        claim.task.counters,
        deps.policies.retry,
        chance=deps.chance.fraction(),
        signal_exit=verdict.signal_exit,
        retry_after=verdict.retry_after,
    )
    if exit_code is not None:
        decision = replace(decision, exit_code=exit_code)
    deps.fail_points.reach("settle.before_effect")
    reason = _told_safely(verdict.reason, deps)
    task = deps.store.claims.settle(claim, decision, reason=reason)
    deps.fail_points.reach("settle.after_effect")
    return WorkResult(exit_code=decision.exit_code, reason=reason, task=task, fix=next_step(task))


def _told_safely(text: str, deps: WorkerDeps) -> str:
    return bounded(clean(deps.redactor(text)), bytes_max=REASON_BYTES_MAX)


def _explain(result: WorkResult, failure: BaseException | None, deps: WorkerDeps) -> WorkResult:
    """Add what the exception knows: whose fault, and what to do."""
    if failure is None or isinstance(failure, Interrupted):
        return result
    if isinstance(failure, TammaError):
        return replace(result, reason=_told_safely(str(failure), deps), fix=failure.fix or result.fix)
    return replace(result, bug=_bug_report(failure))


def _bug_report(failure: BaseException | None) -> str:
    """The traceback, if Tamma itself is at fault."""
    if failure is None or isinstance(failure, Interrupted | TammaError):
        return ""
    return "".join(traceback.format_exception(failure))
