"""Tells an issue, once, what became of its task: a comment, the labels, and the mark that it was told."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tamma.core.change import notice_marker
from tamma.core.effect import EffectKind, effect_key
from tamma.core.errors import NoSuchTask
from tamma.core.event import ChangeDelivered, Event, WorkSalvaged, task_stream
from tamma.core.ids import WorkerId
from tamma.core.outward import code, defused, quoted
from tamma.core.policy import LeasePolicy
from tamma.core.redact import bounded
from tamma.core.task import Notice, Task, TaskState
from tamma.engine.effects import perform_unleased
from tamma.engine.failures import TAIL_BYTES_MAX, GateFailure, failures, last_round
from tamma.engine.next_step import next_step
from tamma.ports.forge import Forge
from tamma.ports.store import Blobs, Store
from tamma.ports.system import FailPoints

_REASON_BYTES_MAX = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Herald:
    """Who tells, with what, and which label asks for work."""

    store: Store
    forge: Forge
    fail_points: FailPoints
    by: WorkerId
    leases: LeasePolicy
    trigger: str

    def tell(self, task: Task) -> bool:
        """Tell the issue about ``task.notice``; True once it has been told, by us or by somebody else, False while work is
        paused.

        May be repeated at any point: each step finds what was done before.
        """
        if task.notice is None:
            return True
        if self._is_superseded(task):
            return self._settle(task, task.notice)
        try:
            is_told = all(self._is_free(task) and step(task, task.notice) for step in (self._comment, self._label))
        except NoSuchTask:  # the issue is gone: nobody is left to be told
            is_told = True
        return is_told and self._settle(task, task.notice)

    def _is_free(self, task: Task) -> bool:
        return self.store.pauses.of(task.ref) is None

    def _is_superseded(self, task: Task) -> bool:
        """A later task of the issue has its own news, and its labels; what was begun to be told is told to its end."""
        newest = self.store.tasks.newest([task.ref], task.kind).get(task.ref)
        if newest is None or newest.generation <= task.generation:
            return False
        return not any(effect.kind is EffectKind.COMMENT for effect in self.store.effects.of_task(task.id))

    def _comment(self, task: Task, notice: Notice) -> bool:
        marker = notice_marker(task.id, notice=notice, epoch=None if task.is_terminal else task.epoch)
        events = self.store.events.stream(task_stream(task.id))
        body = f"{render_notice(task, notice, events, self.store.blobs)}\n\n{marker}\n"

        def act() -> dict[str, str]:
            return {"comment": self.forge.comment(task.ref, marker=marker, body=body).id}

        return perform_unleased(
            self.store.effects, self.fail_points, task.id, step="comment",
            key=effect_key(task.id, EffectKind.COMMENT, f"{notice}-{task.epoch}"), kind=EffectKind.COMMENT,
            intent={"marker": marker}, by=self.by, leases=self.leases, act=act,
        )  # fmt: skip

    def _label(self, task: Task, notice: Notice) -> bool:
        add, remove = labels_for(notice, trigger=self.trigger, is_blocked=task.state is TaskState.BLOCKED)

        def act() -> dict[str, str]:
            before = self.forge.issue(task.ref).labels
            self.forge.change_labels(task.ref, add=add, remove=remove)
            added = (label for label in add if label not in before)
            removed = (label for label in remove if label in before)
            return {"added": ",".join(added), "removed": ",".join(removed)}

        return perform_unleased(
            self.store.effects, self.fail_points, task.id, step="labels",
            key=effect_key(task.id, EffectKind.LABELS, f"{notice}-{task.epoch}"), kind=EffectKind.LABELS,
            intent={"add": ",".join(add), "remove": ",".join(remove)}, by=self.by, leases=self.leases, act=act,
        )  # fmt: skip

    def _settle(self, task: Task, notice: Notice) -> bool:
        self.store.tasks.settle_notice(task.id, notice, epoch=task.epoch, by=self.by)
        return True


def labels_for(notice: Notice, *, trigger: str, is_blocked: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(to add, to remove). The trigger comes off at every end, so that putting it on again is a human's act.

    A blocked task has not ended: without its label it would be called off as soon as a human lets it go on.
    """
    ours = {n: f"{trigger}:{word}" for n, word in _LABEL_WORDS.items()}
    keep = ours.get(notice)
    stale = tuple(sorted(set(ours.values()) - {keep}))
    return ((keep,) if keep else (), stale if is_blocked else (trigger, *stale))


_LABEL_WORDS = {
    Notice.DELIVERED: "delivered",
    Notice.UNCHANGED: "nothing-to-do",
    Notice.ESCALATED: "needs-human",
    Notice.ASKED: "waits-for-human",
}


def render_notice(task: Task, notice: Notice, events: Sequence[Event], blobs: Blobs) -> str:
    """The comment's text, from the task's own events; text from outside is neutralised."""
    reason = defused(bounded(task.reason, bytes_max=_REASON_BYTES_MAX))
    match notice:
        case Notice.DELIVERED:
            return f"Tamma delivered a change for this issue: {_where(events)}."
        case Notice.UNCHANGED:
            return f"Tamma found that nothing needs changing: {reason}"
        case Notice.CANCELLED:
            return f"Tamma's task for this issue was cancelled: {reason}"
        case Notice.ASKED | Notice.ESCALATED:
            return "\n".join(_handing_over(task, notice, reason, events, blobs))


def _where(events: Sequence[Event]) -> str:
    found = [e.fact for e in events if isinstance(e.fact, ChangeDelivered)]
    return (
        f"change {found[-1].change} from branch `{found[-1].branch}` ({found[-1].url})" if found else "see its change"
    )


def _handing_over(task: Task, notice: Notice, reason: str, events: Sequence[Event], blobs: Blobs) -> list[str]:
    blocked = task.state is TaskState.BLOCKED
    opening = (
        "Tamma waits for a human"
        if notice is Notice.ASKED or blocked
        else "Tamma could not resolve this issue and hands it back"
    )
    lines = [f"{opening} ({task.outcome or task.state}).", "", reason, ""]
    last = last_round(events, epoch=task.epoch)
    lines += [f"- gate `{g.gate}`: **{g.verdict}** — {defused(g.summary)}" for g in last]
    salvaged = [e.fact for e in events if isinstance(e.fact, WorkSalvaged)]
    if salvaged:
        lines.append(f"- the undelivered work is kept: `tamma task patch {task.id}`")
    counters = task.counters
    spent = {
        "attempts": counters.attempts,
        "crashes": counters.crashes,
        "interruptions": counters.interruptions,
        "infrastructure": counters.infra,
    }
    if any(spent.values()):
        lines.append("- " + ", ".join(f"{name} {number}" for name, number in spent.items() if number))
    for failure in failures(events, blobs, epoch=task.epoch):
        lines += _of_failure(failure, task)
    lines += ["", f"What next: {next_step(task, events)}"]
    return lines


def _of_failure(failure: GateFailure, task: Task) -> list[str]:
    lines = [f"- {code(test)}" for test in failure.tests]
    if failure.tests_left_out:
        lines.append(f"- … {failure.tests_left_out} more")
    if lines:
        lines = ["", f"Failing in gate {code(failure.gate)}:", "", *lines]
    if failure.tail:
        whole = code(f"tamma task output {task.id} {shlex.quote(failure.gate)}")
        opening = f"The end of what gate {code(failure.gate)} printed; {whole} prints all of it:"
        lines += ["", opening, "", quoted(failure.tail, bytes_max=TAIL_BYTES_MAX)]
    return lines
