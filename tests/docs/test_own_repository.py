"""The README's way to a first change on one's own repository, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_readme import README
from tests.support.project import GIT_ENV, git

MEAN = "def mean(numbers):\n    return sum(numbers) / len(numbers)\n"
AGENT = "cat > /dev/null; sed -i 's/len(numbers)$/(len(numbers) or 1)/' stats.py"
CHECK = "check:\n\tpython3 -c 'import stats; assert stats.mean([1, 3]) == 2'\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A person's home: a checkout with a Makefile, and an editor that puts an agent's command line into what it opens."""
    checkout = tmp_path / "my-repository"
    checkout.mkdir()
    (checkout / "stats.py").write_text(MEAN)
    (checkout / "Makefile").write_text(CHECK)
    git("init", "-q", "-b", "trunk", cwd=checkout)
    git("add", "-A", cwd=checkout)
    git("commit", "-q", "-m", "first", cwd=checkout)
    agent, editor = tmp_path / "agent", tmp_path / "editor"
    agent.write_text(f"#!/bin/sh\n{AGENT}\n")
    editor.write_text(f'#!/bin/sh\nsed -i \'s|^# argv = \\["my-agent".*|argv = ["{agent}"]|\' "$1"\n')
    for script in (agent, editor):
        script.chmod(0o755)
    return tmp_path


def test_the_way_to_a_first_change_is_whole(home: Path, database_url: str) -> None:
    """Each block of the section, in order: what it tells to type sets up, delivers, and merges, and Tamma knows that it did."""
    tried = re.findall(r"^<!-- tried: \S+ -->\n```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert len(tried) == 3
    env = GIT_ENV | {
        "HOME": str(home),
        "EDITOR": str(home / "editor"),
        "DATABASE_URL": database_url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    script = "\n".join(["set -e", *tried, "cd ~/tamma-work && tamma explain my-repository#1"])
    done = subprocess.run(
        ["sh", "-c", script], cwd=home, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gate tests: pass" in done.stdout
    assert "was merged" in done.stdout
    change = (home / "tamma-work/forge/my-repository/changes/1.md").read_text()
    [reproduce] = re.findall(r"^## Reproduce\n\n````sh\n(.*?)^````$", change, re.DOTALL | re.MULTILINE)
    git("clone", "-q", str(home / "my-repository"), str(home / "stranger"), cwd=home)
    for folder, code in (
        ("stranger", 128),
        ("my-repository", 0),
    ):  # only the second has the remote that the set-up made
        again = subprocess.run(["sh", "-c", reproduce], cwd=home / folder, env=env, capture_output=True, check=False)
        assert again.returncode == code, (folder, again.stdout, again.stderr)
    git("checkout", "-q", "trunk", cwd=home / "my-repository")
    assert "(len(numbers) or 1)" in git("show", "trunk:stats.py", cwd=home / "my-repository")
    assert "(len(numbers) or 1)" in git("show", "trunk:stats.py", cwd=home / "tamma-work/forge/my-repository/repo.git")
    assert "\nstate: closed\n" in (home / "tamma-work/forge/my-repository/issues/1.md").read_text()


@pytest.mark.parametrize("state", ["", "state: open\n"])
def test_the_way_an_issue_is_closed_does_so_whatever_its_file_says(tmp_path: Path, state: str) -> None:
    """`state` may be missing, as that of any open issue; what the text says stays."""
    [line] = re.findall(r"^sed .*/issues/1\.md$", README, re.MULTILINE)
    (issues := tmp_path / "tamma-work/forge/my-repository/issues").mkdir(parents=True)
    (issues / "1.md").write_text(f"---\ntitle: one\n{state}---\nstate: of the art\n")
    subprocess.run(["sh", "-c", line], env=GIT_ENV | {"HOME": str(tmp_path)}, check=True)
    assert (issues / "1.md").read_text() == "---\nstate: closed\ntitle: one\n---\nstate: of the art\n"
