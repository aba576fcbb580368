"""The gates of one attempt: baselines on the base commit, verdicts on exactly the tree that would be delivered.

Every gate is asked even after the first red one, since a repair needs all the evidence at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from tamma.core import paths
from tamma.core.comparison import Comparison, compare, merge_runs
from tamma.core.diff import hollowed, judge_budget, judge_protected
from tamma.core.errors import ConfigError, PermanentError, TammaError
from tamma.core.event import GateJudged
from tamma.core.gate import GateReport, GateSpec, GateVerdict, TestRun
from tamma.core.ids import Oid
from tamma.core.policy import ChangePolicy, RedGreen
from tamma.core.redact import Redactor, clean
from tamma.core.redgreen import RED_GREEN, red_green
from tamma.engine.baseline import (
    RED_MAX_AGE,
    agree,
    baseline_key,
    decode_run,
    encode_run,
    is_worth_keeping,
    touched_paths,
)
from tamma.engine.gate_command import GateCommand, GateInterrupted, GateSite
from tamma.ports.sandbox import Sandbox
from tamma.ports.store import BaselineCache, Blobs
from tamma.ports.workspace import Candidate, Workspace

__all__ = ["GateInterrupted", "GateRunner", "GateSite", "to_fact"]

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A command gate's report and the runs behind it."""

    report: GateReport
    spec: GateSpec
    run: TestRun | None
    flaky: tuple[str, ...] = ()


class GateRunner:
    """Asks gates. Holds no state between calls; safe to share between attempts."""

    def __init__(self, *, sandbox: Sandbox, blobs: Blobs, baselines: BaselineCache, redactor: Redactor) -> None:
        self._sandbox = sandbox
        self._baselines = baselines
        self._redactor = redactor
        self._command = GateCommand(sandbox=sandbox, blobs=blobs, redactor=redactor)

    def baseline(self, specs: Sequence[GateSpec], workspace: Workspace, *, site: GateSite) -> Mapping[str, TestRun]:
        """What each gate says about the base commit, by name; from the cache where it is known."""
        return {spec.name: self._baseline(spec, workspace, site) for spec in specs}

    def judge_candidate(
        self,
        candidate: Candidate,
        workspace: Workspace,
        *,
        specs: Sequence[GateSpec],
        base_runs: Mapping[str, TestRun],
        policy: ChangePolicy,
        site: GateSite,
        on_report: Callable[[GateReport], None] = lambda _: None,
    ) -> tuple[GateReport, ...]:
        """Every gate's report on ``candidate.tree``, each also handed to ``on_report`` as soon as it is there.

        Protected paths and the diff budget come first; if one fails, no command runs and the rest are ``skip``. A gate that
        breaks is ``unable`` and hides no other. Raises GateInterrupted, TransientError.
        """
        reports: list[GateReport] = []

        def tell(report: GateReport) -> None:
            reports.append(report)
            on_report(report)

        for judge in (judge_protected, judge_budget):
            tell(judge(candidate.changes, policy=policy, tree=candidate.tree))
        stopper = next((r.name for r in reports if r.binds), None)
        if stopper is not None:
            for report in _skipped(specs, policy, candidate.tree, why=f"not asked, since {stopper} failed"):
                tell(report)
            return tuple(reports)
        judged = []
        for spec in specs:
            judged.append(self._judge(spec, candidate, workspace, base_runs.get(spec.name), site))
            tell(judged[-1].report)
        if policy.red_green is not RedGreen.OFF:
            tell(self._red_green(judged, candidate, workspace, base_runs, policy, site))
        return tuple(reports)

    def _baseline(self, spec: GateSpec, workspace: Workspace, site: GateSite) -> TestRun:
        base = workspace.base
        key = baseline_key(spec, commit=base.commit, environment_key=site.environment_key, sandbox=self._sandbox.name)
        known = self._known(key)
        if known is not None:
            return known
        run = self._on_tree(spec, base.tree, workspace, site, role="base")
        is_certain = is_worth_keeping(run)
        if is_certain and not run.is_green:
            first, run = run, self._on_tree(spec, base.tree, workspace, site, role="base-again")
            is_certain = is_worth_keeping(run) and (run.is_green or agree(first, run))
        if is_certain:
            self._baselines.put(key, encode_run(run))
        return run

    def _known(self, key: str) -> TestRun | None:
        for max_age in (None, RED_MAX_AGE):
            cached = self._baselines.get(key, max_age=max_age)
            run = None if cached is None else decode_run(cached)
            if run is None or run.is_green:
                return run
        return run

    def _judge(
        self, spec: GateSpec, candidate: Candidate, workspace: Workspace, base: TestRun | None, site: GateSite
    ) -> _Judged:
        touched = touched_paths([c.path for c in candidate.changes], spec.cwd)
        run = self._on_tree(spec, candidate.tree, workspace, site, role="change")
        found, rerun = compare(base, run, touched=touched), None
        if found.verdict is GateVerdict.FAIL:
            rerun = self._on_tree(spec, candidate.tree, workspace, site, role="rerun")
            found = compare(base, run, rerun=rerun, touched=touched)
        merged, flaky = merge_runs(run, rerun)
        report = _report(spec, found, run, rerun, candidate.tree)
        hollow = tuple(self._redactor(clean(path)) for path in hollowed(spec, candidate.changes))
        told = f"; the change deletes or empties what it runs: {', '.join(hollow)}" if hollow else ""
        shown = replace(
            report,
            argv=tuple(map(self._redactor, report.argv)),
            hollowed=hollow,
            summary=report.summary + told,
        )
        return _Judged(report=shown, spec=spec, run=merged, flaky=flaky)

    def _red_green(
        self,
        judged: Sequence[_Judged],
        candidate: Candidate,
        workspace: Workspace,
        base_runs: Mapping[str, TestRun],
        policy: ChangePolicy,
        site: GateSite,
    ) -> GateReport:
        files = paths.select((c.path for c in candidate.changes), policy.test_paths)
        chosen = next((j for j in judged if j.run is not None and j.run.tests is not None), None)
        base = base_runs.get(chosen.spec.name) if chosen is not None else None
        overlay = None
        if files and chosen is not None:
            overlay = self._overlay_run(chosen.spec, candidate, workspace, files, site)
        return red_green(
            base,
            overlay,
            chosen.run if chosen is not None else None,
            policy=policy.red_green,
            test_files=files,
            flaky=chosen.flaky if chosen is not None else (),
            tree=candidate.tree,
        )

    def _overlay_run(
        self, spec: GateSpec, candidate: Candidate, workspace: Workspace, files: Sequence[str], site: GateSite
    ) -> TestRun:
        try:
            tree = workspace.overlay(candidate, paths=files)
        except (PermanentError, OSError, ValueError) as e:
            return TestRun(exit_code=None, duration=timedelta(0), unable=self._redactor(clean(str(e))))
        return self._on_tree(spec, tree, workspace, site, role="overlay")

    def _on_tree(self, spec: GateSpec, tree: Oid, workspace: Workspace, site: GateSite, *, role: str) -> TestRun:
        """One run on a fresh checkout of exactly that tree; what goes wrong around it makes the run ``unable``."""
        name = f"gate-{_UNSAFE.sub('-', spec.name)[:40]}-{role}"
        try:
            with workspace.checkout(tree, name=name) as folder:
                return self._command.run(spec, folder, site=site)
        except (PermanentError, ConfigError, OSError, ValueError, RecursionError) as e:
            told = str(e) if isinstance(e, TammaError) else f"{type(e).__name__}: {e}"
            return TestRun(exit_code=None, duration=timedelta(0), unable=self._redactor(clean(told)))


def to_fact(report: GateReport, *, epoch: int, round: int) -> GateJudged:  # noqa: A002 — the event's own word
    """The report as an event: everything but the tail of the output, which the blob holds."""
    return GateJudged(
        epoch=epoch,
        round=round,
        gate=report.name,
        verdict=report.verdict.value,
        is_required=report.is_required,
        summary=report.summary,
        tree=report.tree or "",
        duration_ms=round_ms(report.duration),
        argv=report.argv,
        counts=report.counts,
        base_counts=report.base_counts,
        fixed=report.fixed,
        regressed=report.regressed,
        unfixed=report.unfixed,
        flaky=report.flaky,
        removed=report.removed,
        newly_skipped=report.newly_skipped,
        output=report.output,
    )


def round_ms(duration: timedelta) -> int:
    """Whole milliseconds."""
    return int(duration / timedelta(milliseconds=1))


def _report(spec: GateSpec, found: Comparison, run: TestRun, rerun: TestRun | None, tree: Oid) -> GateReport:
    shown = rerun if rerun is not None and not rerun.unable and found.verdict is GateVerdict.FAIL else run
    return GateReport(
        name=spec.name,
        verdict=found.verdict,
        summary=found.summary,
        is_required=spec.is_required,
        argv=spec.argv,
        tree=tree,
        duration=run.duration + (rerun.duration if rerun is not None else timedelta(0)),
        counts=found.counts,
        base_counts=found.base_counts,
        fixed=found.fixed,
        regressed=found.regressed,
        unfixed=found.unfixed,
        inherited=found.inherited,
        flaky=found.flaky,
        removed=found.removed,
        newly_skipped=found.newly_skipped,
        output=shown.output,
        output_tail=shown.output_tail,
    )


def _skipped(specs: Sequence[GateSpec], policy: ChangePolicy, tree: Oid, *, why: str) -> list[GateReport]:
    found = [
        GateReport(
            name=s.name, verdict=GateVerdict.SKIP, summary=why, is_required=s.is_required, argv=s.argv, tree=tree
        )
        for s in specs
    ]
    if policy.red_green is not RedGreen.OFF:
        found.append(GateReport(name=RED_GREEN, verdict=GateVerdict.SKIP, summary=why, is_required=False, tree=tree))
    return found
