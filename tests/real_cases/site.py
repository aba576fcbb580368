"""A local forge with one repository per case, and the tamma.toml that makes Tamma work on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tamma.core import paths
from tamma.core.policy import DEFAULT_TEST_PATHS
from tests.real_cases.case import Built, Case, checked

HERE: Final = Path(__file__).resolve().parent
ISSUE: Final = "1"
BRANCH: Final = f"tamma/{ISSUE}"
USER: Final = "tamma"
GATE: Final = "tests"
# The agent and `build_case.py` both have their own limit per file; the gate's is only there so that it ends.
GATE_SLACK_SECONDS: Final = 60.0
_FIXED_ENV: Final = {"TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where everything of one run lies."""

    root: Path

    @property
    def forge(self) -> Path:
        """Folder of the forge."""
        return self.root / "forge"

    @property
    def config(self) -> Path:
        """The tamma.toml."""
        return self.root / "tamma.toml"

    def repository(self, case: Case) -> Path:
        """The bare repository of a case."""
        return self.forge / case.id / "repo.git"

    def issue_file(self, case: Case) -> Path:
        """The one issue of a case."""
        return self.forge / case.id / "issues" / f"{ISSUE}.md"

    def change_files(self, case: Case) -> list[Path]:
        """The changes opened for a case."""
        return sorted((self.forge / case.id / "changes").glob("*.md"))


def make_site(root: Path, built: Sequence[Built], *, agent: str) -> Site:
    """Forge and configuration for these cases, with an agent that behaves as told."""
    site = Site(root=root)
    make_forge(site, built)
    for one in built:
        site.issue_file(one.case).write_text(_issue(one.case), encoding="utf-8")
    tables = [
        _table("forge", {"kind": "local", "root": "forge", "user": USER}),
        _table("state", {"folder": "state"}),
        _table("limits", {"running_max": 64, "tick_seconds": 1}),
        _table("retry", {"backoff_base_seconds": 0.1, "backoff_max_seconds": 0.5}),
        work_tables(root, built, agent=agent),
    ]
    site.config.write_text("\n".join(tables), encoding="utf-8")
    return site


def work_tables(root: Path, built: Sequence[Built], *, agent: str) -> str:
    """The part of tamma.toml that tells which agent works, and on which repositories with which gates."""
    argv = [sys.executable, str(HERE / "agent.py"), agent, str(root / "cases")]
    table = _table("agent", {"kind": "command", "argv": argv, "prompt": "stdin"})
    return "\n".join([table, *(_repository(one.case) for one in built)])


def make_forge(site: Site, built: Sequence[Built]) -> None:
    """A bare repository for each case, and a folder for its issues."""
    for one in built:
        repository = site.repository(one.case)
        repository.parent.mkdir(parents=True)
        checked(
            ["git", "clone", "-q", "--bare", str(one.folder / "before"), str(repository)], what="the bare repository"
        )
        site.issue_file(one.case).parent.mkdir()


def _issue(case: Case) -> str:
    title = json.dumps(case.title, ensure_ascii=False)
    return f"---\ntitle: {title}\nlabels: [tamma]\nauthor: reporter\nstate: open\n---\n{case.body}\n"


def _repository(case: Case) -> str:
    name = f"repositories.{json.dumps(case.id)}"
    setup = _setup(case)
    gate = {
        "name": GATE,
        "argv": _gate_argv(case),
        "env": {**_FIXED_ENV, **case.env},
        "timeout_seconds": case.timeout_seconds * (len(case.run_files) or 1) + GATE_SLACK_SECONDS,
    }
    parts = [_table(name, {}), _table(f"{name}.gates", gate, is_array=True)]
    if setup:
        parts.append(_table(f"{name}.environment", {"setup": setup, "inputs": []}))
    if unseen := [path for path in case.test_files if not paths.select([path], DEFAULT_TEST_PATHS)]:
        parts.append(_table(f"{name}.change", {"test_paths": [*DEFAULT_TEST_PATHS, *unseen]}))
    return "\n".join(parts)


def _setup(case: Case) -> list[list[str]]:
    if case.ecosystem == "npm":
        quiet = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        npm = ["npm", "install", "--prefix", "{environment}", *quiet, *case.test_requires]
        return [["mkdir", "-p", "{environment}"], npm] if case.test_requires else []
    pip = ["{environment}/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *case.test_requires]
    return [[sys.executable, "-m", "venv", "{environment}"], pip]


def _gate_argv(case: Case) -> list[str]:
    if case.ecosystem == "npm":
        modules = ["--modules", "{environment}/node_modules"] if case.test_requires else []
        limit = ["--timeout-seconds", str(case.timeout_seconds)]
        return [sys.executable, str(HERE / "npm_gate.py"), "--report", "{report}", *modules, *limit, *case.run_files]
    gate = ["{environment}/bin/python", str(HERE / "pypi_gate.py"), "--report", "{report}"]
    return [*gate, "--pythonpath", *case.pythonpath, "--files", *case.run_files]


def _table(name: str, values: Mapping[str, Any], *, is_array: bool = False) -> str:
    head = f"[[{name}]]" if is_array else f"[{name}]"
    return "\n".join([head, *(f"{key} = {_value(value)}" for key, value in values.items()), ""])


def _value(value: Any) -> str:
    """The value as TOML; JSON's strings, numbers and lists are TOML's too, but for DEL."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
