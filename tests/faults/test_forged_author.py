"""Who a commit says its author is proves nothing: anybody can write that."""

from __future__ import annotations

import os
import subprocess

from tests.support.project import GIT_ENV, Project, git

TAMMA = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Tamma"), ("EMAIL", "tamma@localhost"))
}


def test_a_branch_of_ours_by_name_and_author_alone_is_foreign(project: Project) -> None:
    """Tamma's own name, address and trailers on a commit of somebody else's: left alone, and a human is asked."""
    project.configure()
    bare = project.root / "forge" / "demo" / "repo.git"
    tree = git("rev-parse", "main^{tree}", cwd=bare).strip()
    message = f"Adding is wrong\n\nIssue: local/demo#1\nTamma-Task: {project.task_id()}\n"
    forged = subprocess.run(
        ["git", "commit-tree", tree, "-p", "main", "-m", message],
        cwd=bare, env=GIT_ENV | TAMMA | {"PATH": os.environ["PATH"]}, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    git("update-ref", "refs/heads/tamma/1", forged, cwd=bare)
    done = project.run("work", "--issue", "demo#1")
    assert done.code == 13, (done.err, done.out)
    assert "commits that are not Tamma's" in done.err
    assert project.branches() == {"tamma/1": forged}
    assert project.changes() == []
