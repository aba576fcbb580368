"""Gate reports as people and agents read them: Markdown for the change's description, feedback for a repair.

A ``skip`` or ``unable`` is never drawn like a pass. The event log has every id; what is shown here is bounded.
"""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from tamma.core.gate import GateReport, GateVerdict
from tamma.core.outward import code, defused, fenced, inline
from tamma.core.redact import bounded
from tamma.core.redgreen import RED_GREEN

_MARKS: Final[Mapping[GateVerdict, str]] = {
    GateVerdict.PASS: "✅ pass",
    GateVerdict.FAIL: "❌ fail",
    GateVerdict.SKIP: "⏭️ skip",
    GateVerdict.UNABLE: "⚠️ unable",
}
_HEAD: Final = (
    "| gate | verdict | command | time | tests (base → change) | what was seen |\n| --- | --- | --- | --- | --- | --- |"
)
_INHERITED: Final = "on the base, too, in a file that the change touches: mend it, or leave that file alone"
_IDS_SHOWN_MAX: Final = 200
_DESCRIPTION_BYTES_MAX: Final = 40_000
_FEEDBACK_BYTES_MAX: Final = 24_000
_TAIL_BYTES_MAX: Final = 6_000
_FEEDBACK_IDS_MAX: Final = 60


def evidence_markdown(reports: Sequence[GateReport], *, bytes_max: int = _DESCRIPTION_BYTES_MAX) -> str:
    """A table of all gates, then the ids a reviewer wants: red to green in full (up to 200), flaky, removed, skipped, failing.

    Never over ``bytes_max``: id lists get shorter first, the table stays.
    """
    table = "\n".join([_HEAD, *map(_row, reports)])
    warnings = _warnings(reports)
    for shown_max in (_IDS_SHOWN_MAX, 50, 10, 0):
        text = "\n\n".join(part for part in (table, warnings, *_lists(reports, shown_max)) if part)
        if len(text.encode()) <= bytes_max:
            return text
    return bounded(text, bytes_max=bytes_max)


def repair_feedback(
    reports: Sequence[GateReport], commands: Mapping[str, str], *, bytes_max: int = _FEEDBACK_BYTES_MAX
) -> str:
    """What an agent needs to mend the change: for each gate that stands in the way its command, failing ids and output.

    ``commands`` are those of the gates as one types them, by name. Empty when no gate stands in the way. Each gets its
    share, so that a loud one does not drown the others.
    """
    failing = [r for r in reports if r.binds]
    if not failing:
        return ""
    share = max(800, bytes_max // len(failing))
    parts = [bounded(_feedback(report, commands.get(report.name, ""), share), bytes_max=share) for report in failing]
    return bounded("\n\n".join(parts), bytes_max=bytes_max)


def _row(report: GateReport) -> str:
    name = inline(report.name, chars_max=60) + ("" if report.is_required else " (advisory)")
    command = code(shlex.join(report.argv), chars_max=160) if report.argv else "-"
    cells = (name, _MARKS[report.verdict], command, _time(report.duration), _counts(report), inline(report.summary))
    return f"| {' | '.join(cells)} |"


def _counts(report: GateReport) -> str:
    if not report.counts and not report.base_counts:
        return "-"
    names = [n for n in (*report.counts, *report.base_counts) if n]
    shown = []
    for name in dict.fromkeys(names):
        old, new = report.base_counts.get(name), report.counts.get(name, 0)
        if old or new:
            shown.append(
                f"{name.replace('_', ' ')} {new}" if old is None else f"{name.replace('_', ' ')} {old} → {new}"
            )
    return ", ".join(shown) or "none"


def _warnings(reports: Sequence[GateReport]) -> str:
    lines = []
    if not any(report.argv for report in reports):
        lines.append("- ⚠️ no gate is configured for this repository: nothing of it was run")
    for report in reports:
        for ids, word in (
            (report.flaky, "flaky: failed once and passed at once on the same tree"),
            (report.removed, "removed: ran on the base, absent now"),
            (report.newly_skipped, "newly skipped: ran on the base, skipped now"),
        ):
            if ids:
                lines.append(f"- ⚠️ {inline(report.name, chars_max=60)}: {len(ids)} {word}")
        for path in report.hollowed:
            name = inline(report.name, chars_max=60)
            lines.append(f"- ⚠️ {name}: its command names {code(path)}, which this change deletes or empties")
    return "\n".join(lines)


def _lists(reports: Sequence[GateReport], shown_max: int) -> list[str]:
    found = []
    for report in reports:
        name = html.escape(defused(report.name))
        for ids, word in (
            (report.fixed, "red → green" if report.name == RED_GREEN else "fixed or new"),
            (report.regressed, "regressed"),
            (_without_inherited(report), "failing, new or not run on the base"),
            (report.inherited, f"failing {_INHERITED}"),
            (report.flaky, "⚠️ flaky"),
            (report.removed, "⚠️ removed"),
            (report.newly_skipped, "⚠️ newly skipped"),
        ):
            if ids:
                found.append(_details(f"{name}: {len(ids)} {word}", ids, shown_max))
    return found


def _details(title: str, ids: Sequence[str], shown_max: int) -> str:
    items = [f"- {code(i)}" for i in ids[:shown_max]]
    rest = len(ids) - len(items)
    if rest:
        items.append(f"- … {rest} more; the event log has all of them")
    return f"<details><summary>{title}</summary>\n\n" + "\n".join(items) + "\n\n</details>"


def _feedback(report: GateReport, command: str, share: int) -> str:
    lines = [f"### Gate `{report.name}` failed", "", f"Why: {' '.join(report.summary.split())}"]
    if command:
        lines.append(f"Command: {command}")
    for ids, word in (
        (report.regressed, "Passed before the change, fails now"),
        (_without_inherited(report), "Fails, new or not run on the base"),
        (report.inherited, f"Fails {_INHERITED}"),
    ):
        if ids:
            lines += ["", f"{word} ({len(ids)}):", *(f"- {i}" for i in ids[:_FEEDBACK_IDS_MAX])]
            if len(ids) > _FEEDBACK_IDS_MAX:
                lines.append(f"- … {len(ids) - _FEEDBACK_IDS_MAX} more")
    text = "\n".join(lines)
    if report.output_tail:
        room = min(_TAIL_BYTES_MAX, max(0, share - len(text.encode()) - 200))
        tail = report.output_tail.encode()[-room:].decode(errors="ignore") if room else ""
        if tail:
            text += "\n\nThe end of its output:\n\n" + fenced(tail, bytes_max=room)
    return text


def _without_inherited(report: GateReport) -> tuple[str, ...]:
    inherited = frozenset(report.inherited)
    return tuple(i for i in report.unfixed if i not in inherited)


def _time(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    if seconds <= 0:
        return "-"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
