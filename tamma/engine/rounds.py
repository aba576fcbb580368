"""The middle of an attempt: baseline, then rounds of implement or repair → audit → gates, until green or spent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tamma.core import paths
from tamma.core.attempt import Outcome, Phase, Verdict
from tamma.core.diff import refusal
from tamma.core.errors import PASSING
from tamma.core.event import AgentFinished, AgentSpoke, AgentStarted, TreeAudited
from tamma.core.gate import GateReport, GateVerdict, TestRun
from tamma.core.leaks import leaks, message_leaks, without_secrets
from tamma.core.outward import defused
from tamma.core.redact import bounded, clean
from tamma.core.redgreen import RED_GREEN
from tamma.core.words import counted
from tamma.engine.attempt import Attempt, refuse
from tamma.engine.evidence import repair_feedback
from tamma.engine.gates import GateInterrupted, GateRunner, GateSite, to_fact
from tamma.engine.prompts import Brief, Snapshot, implement_prompt, one_line, repair_prompt
from tamma.engine.speech import Speech
from tamma.engine.typed import AGENTS_ENVIRONMENT, gate_as_typed
from tamma.ports.agent import AgentRequest, AgentResult, AgentStatus
from tamma.ports.environment import Environment
from tamma.ports.workspace import Candidate, Workspace, WorkspaceRemoved

DETAIL_BYTES_MAX: Final = 2_000
_LEAKS_TOLD_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A tree that passed, and everything a reviewer should know about how."""

    candidate: Candidate
    reports: tuple[GateReport, ...]
    repairs: int
    detail: str = ""
    has_failed_agent: bool = False


class Rounds:
    """The rounds of one attempt in one workspace. Used once."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        workspace: Workspace,
        snapshot: Snapshot,
        environment: Environment | None,
        answers: tuple[str, ...],
    ) -> None:
        self.attempt = attempt
        self.deps = attempt.deps
        self.plan = attempt.plan
        self.workspace = workspace
        self.snapshot = snapshot
        self.environment = environment
        self.gates = GateRunner(
            sandbox=attempt.deps.sandbox,
            blobs=attempt.deps.store.blobs,
            baselines=attempt.deps.store.baselines,
            redactor=attempt.deps.redactor,
        )
        self.site = GateSite(
            tag=attempt.tag,
            environment=environment.folder if environment else None,
            environment_key=environment.key if environment else "",
            readable=(environment.folder,) if environment else (),
            should_stop=attempt.should_stop,
        )
        redactor = attempt.deps.redactor
        self.brief = Brief(
            snapshot=snapshot,
            seed=attempt.tag,
            gates={g.name: redactor(gate_as_typed(g, environment=AGENTS_ENVIRONMENT)) for g in attempt.plan.gates},
            protected=attempt.plan.change.protected_paths,
            answers=answers,
        )
        self._agent_seconds = 0.0

    def run(self) -> Solution | Verdict:
        """A solution that may be published, or how the attempt ends.

        Raises RefusedByPolicy, Interrupted, LeaseLost, and what agent, gates and workspace raise.
        """
        try:
            self.attempt.enter(Phase.BASELINE)
            approved = self.attempt.task.approved
            restored = self.workspace.restore(approved) if approved is not None else None
            base_runs = self.gates.baseline(self.plan.gates, self.workspace, site=self.site)
            if restored is not None:
                return self._rejudge_approved(restored, base_runs)
            return self._rounds(base_runs)
        except GateInterrupted:
            raise self.attempt.stopped() from None
        except WorkspaceRemoved as error:
            return Verdict(outcome=Outcome.AGENT_FAILED, reason=f"the agent removed its workspace: {error}")

    def _rounds(self, base_runs: Mapping[str, TestRun]) -> Solution | Verdict:
        prompt = implement_prompt(self.brief)
        repairs_max = self.plan.change.repairs_max
        for turn in range(repairs_max + 1):
            self.attempt.enter(Phase.REPAIR if turn else Phase.IMPLEMENT)
            result = self._run_agent(prompt, turn)
            candidate = self._audit()
            self._record_agent(result, candidate, turn)
            ended = self._judge_agent(result, candidate)
            if ended is not None:
                return ended
            reports = self._judge(candidate, base_runs, turn)
            ended = self._judge_reports(reports, result, candidate)
            if ended is not None:
                return ended
            if not any(report.binds for report in reports):
                return Solution(
                    candidate=candidate,
                    reports=reports,
                    repairs=turn,
                    detail=result.detail,
                    has_failed_agent=result.status is AgentStatus.FAILED,
                )
            feedback = repair_feedback(reports, self.brief.gates)
            prompt = repair_prompt(self.brief, feedback=feedback, turn=turn + 1, turns_max=repairs_max)
        failed = ", ".join(f"{r.name} ({r.summary})" for r in reports if r.binds)
        return Verdict(
            outcome=Outcome.GATES_FAILED,
            reason=f"after {counted(repairs_max, 'repair')} these gates still fail: {failed}",
        )

    def _rejudge_approved(self, candidate: Candidate, base_runs: Mapping[str, TestRun]) -> Solution | Verdict:
        """A human approved this commit: no agent runs, but the gates are asked again on this machine, against its own base."""
        self.attempt.enter(Phase.AUDIT)
        self._record_audit(candidate)
        reports = self._judge(candidate, base_runs, 0)
        if helpless := _helpless(reports):  # that says nothing about the commit, which stays approved
            reason = f"the approved commit {candidate.commit} cannot be judged now: {helpless}"
            return Verdict(outcome=Outcome.BLOCKED, reason=reason)
        if any(report.binds for report in reports):
            failed = ", ".join(f"{r.name} ({r.summary})" for r in reports if r.binds or r.needs_human)
            return Verdict(
                outcome=Outcome.GATES_FAILED,
                reason=f"the approved commit {candidate.commit} does not pass now: {failed}",
            )
        return Solution(candidate=candidate, reports=reports, repairs=0, detail="approved by a human")

    # Implement and repair

    def _run_agent(self, prompt: str, turn: int) -> AgentResult:
        attempt, deps = self.attempt, self.deps
        scratch = self._make_scratch(turn)
        attempt.record(
            AgentStarted(epoch=attempt.lease.epoch, turn=turn, agent=self.plan.agent.name, sandbox=deps.sandbox.name)
        )
        box = deps.sandbox.box(
            self.workspace.folder, tag=attempt.tag, readable=self._readable(scratch), should_stop=attempt.should_stop
        )
        deps.fail_points.reach("agent.before_run")
        started = deps.clock.monotonic()
        with Speech(self._recorder(turn)) as words:
            result = self.plan.agent.run(self._request(prompt, turn, scratch), box, self._listener(words))
        words.flush(when_away=attempt.prove_lease)
        self._agent_seconds = deps.clock.monotonic() - started
        deps.fail_points.reach("agent.after_run")
        attempt.check()
        return result

    def _make_scratch(self, turn: int) -> Path:
        """A name that the agent of an earlier turn could not know: what it planted there (a FIFO, a link) would hang or lead us."""
        try:
            return Path(tempfile.mkdtemp(prefix=f"turn-{turn}-", dir=self.workspace.scratch))
        except OSError as error:
            if turn == 0 or error.errno in PASSING:  # not the doing of an agent
                raise
            raise WorkspaceRemoved("its scratch folder cannot be used", why=str(error)) from error

    def _readable(self, scratch: Path) -> tuple[Path, ...]:
        return (scratch, self.environment.folder) if self.environment else (scratch,)

    def _request(self, prompt: str, turn: int, scratch: Path) -> AgentRequest:
        return AgentRequest(
            issue=self.attempt.task.ref,
            title=self.snapshot.title,
            prompt=prompt,
            turn=turn,
            attempt=self.attempt.lease.epoch,
            scratch=scratch,
            limits=self.plan.agent_policy,
            environment=self.environment.folder if self.environment else None,
        )

    def _recorder(self, turn: int) -> Callable[[str], None]:
        def record(text: str) -> None:
            if not self.attempt.should_stop():
                self.attempt.record(AgentSpoke(epoch=self.attempt.lease.epoch, turn=turn, text=text))

        return record

    def _listener(self, words: Speech) -> Callable[[str], None]:
        def listen(text: str) -> None:
            said = bounded(clean(self.deps.redactor(text)), bytes_max=self.plan.agent_policy.event_bytes_max)
            words.say(said)

        return listen

    def _record_agent(self, result: AgentResult, candidate: Candidate, turn: int) -> None:
        detail = bounded(clean(self.deps.redactor(result.detail)), bytes_max=DETAIL_BYTES_MAX)
        output = self.deps.redactor(result.output).encode()
        self.attempt.record(
            AgentFinished(
                epoch=self.attempt.lease.epoch,
                turn=turn,
                status=result.status,
                detail=detail,
                exit_code=result.exit_code,
                duration_ms=int(self._agent_seconds * 1000),
                output=self.deps.store.blobs.put(output) if output else None,
                output_bytes=result.output_bytes,
                files=len(candidate.changes),
                lines=candidate.lines,
                usage={self.deps.redactor(name): number for name, number in result.usage.items()},
            )
        )

    def _judge_agent(self, result: AgentResult, candidate: Candidate) -> Verdict | None:
        """What the agent's run alone decides. Its word never makes a success; a diff goes to the gates whatever it said."""
        detail = clean(self.deps.redactor(result.detail))
        match result.status:
            case AgentStatus.BLOCKED:
                return Verdict(outcome=Outcome.BLOCKED, reason=f"the agent asks: {detail or 'nothing in particular'}")
            case AgentStatus.BUDGET_SPENT:
                return Verdict(outcome=Outcome.BUDGET_SPENT, reason=detail or "the agent's budget is spent")
            case AgentStatus.IDLE:
                return Verdict(outcome=Outcome.AGENT_FAILED, reason=detail or "the agent went silent and was stopped")
            case AgentStatus.STOPPED:
                raise self.attempt.stopped()
            case AgentStatus.FINISHED | AgentStatus.FAILED | AgentStatus.NO_CHANGE_NEEDED:
                if not candidate.is_empty:
                    return None
                said = f"; it said: {detail}" if detail else ""
                return Verdict(
                    outcome=Outcome.AGENT_FAILED,
                    reason=f"{_of_nothing(result.status)} (0 files, 0 lines){said}",
                )

    # Audit and gates

    def _audit(self) -> Candidate:
        self.attempt.enter(Phase.AUDIT)
        message = self.deps.redactor(commit_message(self.snapshot, self.attempt))
        candidate = self.workspace.capture(message=message)
        self._record_audit(candidate, message=message)
        return candidate

    def _record_audit(self, candidate: Candidate, *, message: str = "") -> None:
        redactor = self.deps.redactor
        leaked = (*leaks(candidate.patch, redactor), *message_leaks(message, redactor))
        refusals = (*candidate.refusals, *leaked[:_LEAKS_TOLD_MAX])
        kept = without_secrets(candidate.patch, redactor)
        patch = self.deps.store.blobs.put(kept) if kept else None
        self.attempt.record(
            TreeAudited(
                epoch=self.attempt.lease.epoch,
                commit=candidate.commit,
                tree=candidate.tree,
                files=len(candidate.changes),
                lines=candidate.lines,
                patch=patch,
                refusals=refusals,
            )
        )
        if refusals:
            raise refuse(refusals)

    def _judge(self, candidate: Candidate, base_runs: Mapping[str, TestRun], turn: int) -> tuple[GateReport, ...]:
        self.attempt.enter(Phase.GATES)
        epoch = self.attempt.lease.epoch
        return self.gates.judge_candidate(
            candidate,
            self.workspace,
            specs=self.plan.gates,
            base_runs=base_runs,
            policy=self.plan.change,
            site=self.site,
            on_report=lambda report: self.attempt.record(to_fact(report, epoch=epoch, round=turn)),
        )

    def _judge_reports(
        self, reports: tuple[GateReport, ...], result: AgentResult, candidate: Candidate
    ) -> Verdict | None:
        """What no repair can mend ends the attempt here; None lets the round decide."""
        if (refused := refusal(reports)) is not None:
            raise refuse((refused.summary,))
        if helpless := _helpless(reports):
            return Verdict(outcome=Outcome.BLOCKED, reason=helpless)
        if result.status is AgentStatus.NO_CHANGE_NEEDED:
            return self._prove_nothing_needed(reports, result, candidate)
        return None

    def _prove_nothing_needed(
        self, reports: tuple[GateReport, ...], result: AgentResult, candidate: Candidate
    ) -> Verdict | None:
        """The agent says nothing needs changing. Proof: it changed tests alone, and tests it added pass on the code as it is."""
        only_tests = len(paths.select((c.path for c in candidate.changes), self.plan.change.test_paths)) == len(
            candidate.changes
        )
        others_bind = any(r.binds for r in reports if r.name != RED_GREEN)
        proven = sum(len(r.fixed) for r in reports if r.verdict is GateVerdict.PASS and r.name != RED_GREEN)
        if only_tests and not others_bind and proven:
            reason = f"{counted(proven, 'new test passes', 'new tests pass')} on the code as it is; the agent says: {clean(result.detail)}"
            return Verdict(outcome=Outcome.NO_CHANGE_NEEDED, reason=reason)
        return None


def _helpless(reports: Sequence[GateReport]) -> str:
    """The gates that could not be asked, where no other binds; empty if there are none, or a repair comes first."""
    if any(report.binds for report in reports):
        return ""
    return "; ".join(f"gate {report.name}: {report.summary}" for report in reports if report.needs_human)


def _of_nothing(status: AgentStatus) -> str:
    if status is AgentStatus.NO_CHANGE_NEEDED:
        return "the agent says that no change is needed, but added no test that passes on the code as it is"
    return f"the agent {status} and changed nothing"


def commit_message(snapshot: Snapshot, attempt: Attempt) -> str:
    """Subject, reference and the task's id, so that `git log` alone tells where a commit came from."""
    return f"{defused(one_line(snapshot.title, chars_max=72))}\n\nIssue: {attempt.task.ref}\nTamma-Task: {attempt.task.id}\n"
