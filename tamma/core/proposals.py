"""What `tamma init` proposes for a repository it has never seen: gates and the environment they need.

A proposal is a starting point for an operator to read, never something that runs unasked. It is made from the names in the
repository's top folder and the content of a few small files.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tamma.core.gate import GateSpec

# Files whose content is asked for; the caller reads at most FILE_BYTES_MAX of each.
READ: Final = (
    "pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "requirements.txt", "requirements-dev.txt", "package.json", "Makefile",
)  # fmt: skip
FILE_BYTES_MAX: Final = 262_144
_REQUIREMENTS: Final = (
    "requirements.txt", "requirements-dev.txt", "requirements-test.txt", "dev-requirements.txt", "test-requirements.txt",
)  # fmt: skip
_PYTHON: Final = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", *_REQUIREMENTS)
_PYTHON_BIN: Final = "{environment}/bin/python"
_TEST_TARGET: Final = re.compile(r"^(test|check)\s*:(?!=)", re.MULTILINE)
_LINT_TARGET: Final = re.compile(r"^lint\s*:(?!=)", re.MULTILINE)
_NODE_TEST: Final = re.compile(r"^node\s+--test\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Gates, the set-up commands of the environment (with ``{environment}`` for its folder), the files that define it, and
    what an operator should know, a sentence each."""

    gates: tuple[GateSpec, ...] = ()
    setup: tuple[tuple[str, ...], ...] = ()
    inputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def propose(names: Collection[str], contents: Mapping[str, str]) -> Proposal:
    """What fits a repository with these names in its top folder; empty, with a note, where nothing is recognised."""
    found = [part for part in (_python(names, contents), _node(names, contents)) if part is not None]
    if not any(part.gates for part in found) and (make := _make(contents)) is not None:
        found.append(make)
    if not any(part.gates for part in found):
        found.append(
            Proposal(notes=("no test command was recognised: add a [[gates]] entry with the command that must pass",))
        )
    return Proposal(
        gates=_named_apart([gate for part in found for gate in part.gates]),
        setup=tuple(command for part in found for command in part.setup),
        inputs=tuple(dict.fromkeys(name for part in found for name in part.inputs)),
        notes=tuple(note for part in found for note in part.notes) + _lint(contents),
    )


def _lint(contents: Mapping[str, str]) -> tuple[str, ...]:
    """A linter is told, not proposed: many need what no environment here installs."""
    scripts = _json(contents.get("package.json", "")).get("scripts")
    told = []
    if isinstance(scripts, dict) and "lint" in scripts:
        told.append("package.json has a lint script: add a [[gates]] entry for `npm run lint` if it must pass")
    if _LINT_TARGET.search(contents.get("Makefile", "")):
        told.append("the Makefile has a target lint: add a [[gates]] entry for `make lint` if it must pass")
    return tuple(told)


def _python(names: Collection[str], contents: Mapping[str, str]) -> Proposal | None:
    inputs = tuple(name for name in _PYTHON if name in names)
    if (
        not inputs
        and "conftest.py" not in names
        and not any(name.startswith("test_") and name.endswith(".py") for name in names)
    ):
        return None
    venv: tuple[str, ...] = ("python3", "-m", "venv", "{environment}")
    pip = (_PYTHON_BIN, "-m", "pip", "install", "--disable-pip-version-check")
    files = [flag for name in _REQUIREMENTS if name in names for flag in ("-r", name)]
    extras, groups = _python_extras(contents.get("pyproject.toml", ""))
    setup = [venv, (*pip, "pytest", *files)]
    if groups:
        setup.append((*pip, *(flag for group in groups for flag in ("--group", group))))
    notes = []
    if _is_installable(names, contents):
        # Editable on purpose: gates run in other checkouts, where PYTHONPATH puts their own code first.
        setup.append((*pip, "-e", f".[{','.join(extras)}]" if extras else "."))
        notes.append(
            "the package is installed from the base commit; PYTHONPATH makes each gate import the change's own code"
        )
    gate = GateSpec(
        name="tests",
        argv=(_PYTHON_BIN, "-m", "pytest", "-q", "--junitxml={report}"),
        env={"PYTHONPATH": "src:." if "src" in names else "."},
    )
    return Proposal(gates=(gate,), setup=tuple(setup), inputs=inputs, notes=tuple(notes))


def _python_extras(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Extras and dependency groups whose names say that tests need them."""
    wanted = ("test", "tests", "testing", "dev")
    data = _toml(text)
    project = data.get("project")
    extras = project.get("optional-dependencies") if isinstance(project, dict) else None
    groups = data.get("dependency-groups")
    return _present(wanted, extras), _present(wanted, groups)


def _is_installable(names: Collection[str], contents: Mapping[str, str]) -> bool:
    data = _toml(contents.get("pyproject.toml", ""))
    tool = data.get("tool")
    has_poetry = isinstance(tool, dict) and "poetry" in tool
    return "setup.py" in names or "project" in data or has_poetry or "[metadata]" in contents.get("setup.cfg", "")


def _node(names: Collection[str], contents: Mapping[str, str]) -> Proposal | None:
    if "package.json" not in names:
        return None
    inputs = tuple(
        n for n in ("package.json", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", ".npmrc") if n in names
    )
    package = _json(contents.get("package.json", ""))
    scripts = package.get("scripts")
    script = scripts.get("test") if isinstance(scripts, dict) else None
    if not isinstance(script, str) or "no test specified" in script:
        return Proposal(inputs=inputs, notes=("package.json has no test script",))
    has_dependencies = any(package.get(key) for key in ("dependencies", "devDependencies"))
    install = ("npm", "ci" if "package-lock.json" in names else "install", "--no-audit", "--no-fund")
    gate = GateSpec(name="tests", argv=_node_command(script.strip()))
    reads_tests = any("{report}" in word for word in gate.argv)
    notes = (
        ()
        if reads_tests
        else ("the test script reports no single tests: red-green stays unable until it writes JUnit XML to {report}",)
    )
    if not has_dependencies:
        return Proposal(gates=(gate,), inputs=inputs, notes=notes)
    linked = GateSpec(
        name="tests",
        argv=("sh", "-c", f"ln -sfn '{{environment}}/node_modules' node_modules && exec {_shell(gate.argv)}"),
    )
    copied = [n for n in (*inputs,) if n != "yarn.lock"]
    setup = (("cp", *copied, "{environment}/"), (install[0], "--prefix", "{environment}", *install[1:]))
    return Proposal(gates=(linked,), setup=setup, inputs=inputs, notes=notes)


def _node_command(script: str) -> tuple[str, ...]:
    plain = not re.search(r"[|&;<>$`\"'\\(){}*?#~]", script)
    if _NODE_TEST.match(script) and plain and "--test-reporter" not in script:
        rest = script.split()[2:]
        return ("node", "--test", "--test-reporter=junit", "--test-reporter-destination={report}", *rest)
    return ("npm", "test", "--silent")


def _make(contents: Mapping[str, str]) -> Proposal | None:
    target = _TEST_TARGET.search(contents.get("Makefile", ""))
    if target is None:
        return None
    note = "make reports no single tests: red-green stays unable until the command writes JUnit XML to {report}"
    return Proposal(gates=(GateSpec(name="tests", argv=("make", target.group(1))),), notes=(note,))


def _named_apart(gates: list[GateSpec]) -> tuple[GateSpec, ...]:
    """The first keeps its name; a second of the same name is named after its program."""
    if len(gates) < 2:
        return tuple(gates)
    first, *rest = gates
    return (first, *(GateSpec(name=f"{g.name}-{i}", argv=g.argv, env=g.env) for i, g in enumerate(rest, 2)))


def _shell(argv: tuple[str, ...]) -> str:
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./-]+", word) else f"'{word}'" for word in argv)


def _present(wanted: tuple[str, ...], table: object) -> tuple[str, ...]:
    return tuple(name for name in wanted if isinstance(table, dict) and name in table)


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
