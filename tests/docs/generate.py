"""Writes the reference pages from the code: ``python -m tests.docs.generate``."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

from tamma.cli.render import event_json
from tamma.config.reference import reference
from tamma.core.attempt import PHASES, Outcome, judge
from tamma.core.errors import ExitCode
from tamma.core.event import FACTS, Event, PhaseEntered
from tamma.core.ids import CorrelationId
from tamma.core.policy import RetryPolicy
from tamma.core.task import TERMINAL, TRANSITIONS, Counters
from tests.docs.cli_reference import render as cli_reference

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs"
_NOTE: Final = "<!-- Generated from the code by `python -m tests.docs.generate`; do not edit. -->\n"


def configuration() -> str:
    """Every key of tamma.toml."""
    lines = [
        "# Configuration",
        _NOTE,
        "`tamma.toml` is the file that `--config` or `TAMMA_CONFIG` names, else the nearest one from here upwards: in a checkout up to",
        "its root, elsewhere as far as the folders are your own and not everybody may write to them.",
        "Flags win over environment variables, these over the file, the file over defaults. Relative paths start at the file's folder.",
        "A variable holds lists and tables as JSON; an empty one counts as unset. `DATABASE_URL` is `database.url`, password and all;",
        "the file itself never holds secrets. Unknown keys are errors. `tamma doctor --settings` shows each value with where",
        "it came from.",
        "",
        "Inside `[repositories.NAME]`, the tables `agent`, `environment` and `change` take the keys of the sections of that name and",
        "win over them one by one; `gates` there replaces the whole list.",
    ]
    for section, rows in groupby(reference(), key=lambda row: row.key.rpartition(".")[0]):
        name = f"[[{section.removesuffix('[]')}]]" if section.endswith("[]") else f"[{section}]"
        lines += [
            "",
            f"## `{name}`",
            "",
            "| key | type | default | bounds | meaning | variable |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            default = f"`{row.default}`" if row.default else "-"
            cells = (
                f"`{row.key.rpartition('.')[2]}`",
                row.type,
                default,
                row.bounds or "-",
                row.description,
                f"`{row.variable}`",
            )
            lines.append(_row(*cells))
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    """The exit codes of ``tamma work``."""
    rows = [_row(str(code.value), code.meaning, code.advice) for code in ExitCode]
    return (
        "\n".join(["# Exit codes of `tamma work`", _NOTE, "| code | meaning | CI should |", "|---|---|---|", *rows])
        + "\n"
    )


def events() -> str:
    """The catalogue of events."""
    lines = ["# Events", _NOTE, "Every fact that the log can hold; `tamma events --json` prints them with these names."]
    lines += [
        "",
        "An event, here on several lines, is printed as one; what the tables below list stands in its `data`:",
        "",
        "```json",
        _sample(),
        "```",
    ]
    for name, fact in sorted(FACTS.items()):
        told = " ".join((fact.__doc__ or "").split())
        lines += ["", f"## `{name}`", "", told, "", "| field | type |", "|---|---|"]
        lines += [_row(f"`{item.name}`", f"`{item.type}`") for item in dataclasses.fields(fact)]
    return "\n".join(lines) + "\n"


def _sample() -> str:
    """One event as `tamma events --json` prints it."""
    task = "0d5f6f2e-2f0f-5c0e-9d0b-6a4f3f1c2b7a"
    event = Event(
        position=42, stream=f"task:{task}", version=7, at=datetime(2026, 11, 23, 8, 30, tzinfo=UTC),
        tags=("issue:local/demo#12", "repo:local/demo", f"task:{task}"),
        correlation=CorrelationId("7c9e6679-7425-50de-944b-e07fc1f90ae7"), fact=PhaseEntered(epoch=1, phase="gates"),
    )  # fmt: skip
    return json.dumps(json.loads(event_json(event)), indent=2)


def states() -> str:
    """The state machines, and what each outcome does."""
    lines = ["# States", _NOTE, "## Task", "", "```mermaid", "stateDiagram-v2", "    [*] --> queued"]
    lines += [f"    {state} --> {to}: {trigger}" for (state, trigger), to in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in sorted(TERMINAL)]
    lines += ["```", "", "## Phases of an attempt", "", "```mermaid", "stateDiagram-v2"]
    lines += [f"    {phase or '[*]'} --> {after}" for phase, afters in PHASES.items() for after in sorted(afters)]
    lines += ["    report --> [*]", "```", "", "## What an outcome does to its task", ""]
    lines += [
        "| outcome | first time | at the cap | counter | exit code | the issue is told |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_outcome(outcome) for outcome in Outcome]
    return "\n".join(lines) + "\n"


def modules() -> str:
    """Every module, by what its own first sentence promises."""
    top = FOLDER.parent
    lines = [
        "# Modules",
        _NOTE,
        "Where what is; each row is the module's own first sentence. How the packages meet: [architecture.md](architecture.md).",
    ]
    found = sorted(
        (top / "tamma").rglob("*.py"), key=lambda path: (path.parent.parts, path.name != "__init__.py", path.name)
    )
    for folder, paths in groupby(found, key=lambda path: path.parent):
        lines += ["", f"## `{folder.relative_to(top)}`", "", "| module | |", "|---|---|"]
        lines += [_row(f"`{path.stem}`", _first_sentence(path)) for path in paths]
    return "\n".join(lines) + "\n"


def _first_sentence(path: Path) -> str:
    told = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", told)[0]


def _outcome(outcome: Outcome) -> str:
    if outcome is Outcome.LEASE_LOST:
        return _row(outcome, "nothing: it is not ours any more", "-", "-", str(ExitCode.LEASE_LOST.value), "-")
    policy = RetryPolicy()
    first = judge(outcome, Counters(), policy, chance=0)
    caps = {item.name: getattr(policy, f"{item.name}_max") - 1 for item in dataclasses.fields(Counters)}
    last = judge(outcome, Counters(**caps), policy, chance=0)
    raised = [item.name for item in dataclasses.fields(Counters) if getattr(first.counters, item.name)]
    code = "130 / 143" if outcome is Outcome.INTERRUPTED else str(first.exit_code.value)
    at_cap = "-" if last.to is first.to else f"{last.trigger}: {last.to}"
    return _row(
        outcome,
        f"{first.trigger}: {first.to}",
        at_cap,
        ", ".join(raised) or "-",
        code,
        _notices(first.notice, last.notice),
    )


def _notices(first: str | None, last: str | None) -> str:
    return first or (f"{last}, at the cap" if last else "-")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# One line per page.
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "cli.md": partial(cli_reference, _NOTE),
    "configuration.md": configuration,
    "exit-codes.md": exit_codes,
    "events.md": events,
    "states.md": states,
    "modules.md": modules,
}


def main(argv: Sequence[str]) -> int:
    """Rewrite every page; with ``--check`` name those that are not what they should be, and write nothing."""
    stale = [name for name, make in PAGES.items() if not _is(name, make())]
    if list(argv) == ["--check"]:
        for name in stale:
            print(f"docs/{name} is not what the code says; run: python -m tests.docs.generate")
        return 1 if stale else 0
    for name in stale:
        (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
    return 0


def _is(name: str, text: str) -> bool:
    path = FOLDER / name
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
