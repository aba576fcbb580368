"""What a storm works on: one small repository, or real packages with their real bugs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.chaos.storm import LEASE_SECONDS
from tests.faults.test_worker_killed import NEEDS_REPAIR, PROUD_GATE
from tests.real_cases.case import BUILDER, build_all, load_cases
from tests.real_cases.site import Site, make_forge, work_tables
from tests.support.project import Project

SECRET: Final = "canary-7f3a9c51e2"
_LIMITS: Final = f"""
[retry]
backoff_base_seconds = 0.05
backoff_max_seconds = 0.2
crashes_max = 100
infra_max = 1000
interruptions_max = 1000
attempts_max = 100

[limits]
tick_seconds = 0.3
open_changes_per_repository_max = 10000

[lease]
duration_seconds = {LEASE_SECONDS}
beat_seconds = 0.5
"""


def small_work(project: Project) -> Mapping[str, Mapping[str, str]]:
    """A repository whose one bug the scripted agent mends at the second try; what to put into its issues."""
    _keep_together(project)
    project.repository()
    project.configure(PROUD_GATE, steps=None, quick=_LIMITS)
    project.script(**NEEDS_REPAIR)
    return {"demo": {}}


def work_of_cases(project: Project, folder: Path) -> Mapping[str, Mapping[str, str]]:
    """A repository for each case, its gate the package's own tests, its agent one that mends its work when told.

    Every issue of a repository is the same bug: no change is merged meanwhile. Raises CasesUnusable.
    """
    _keep_together(project)
    root = project.root
    built = build_all(
        load_cases(folder),
        builder=(folder / BUILDER).resolve(),
        out=root / "cases",
        cache=root / "archives",
        jobs=os.cpu_count() or 1,
    )
    make_forge(Site(root=root), built)
    project.configure(work_tables(root, built, agent="mends"), quick=_LIMITS)
    return {one.case.id: {"title": one.case.title, "body": one.case.body} for one in built}


def _keep_together(project: Project) -> None:
    project.env["TAMMA_CHAOS_TOKEN"] = SECRET
    project.env["TMPDIR"] = str(project.root / "tmp")
    (project.root / "tmp").mkdir()
