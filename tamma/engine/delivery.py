"""Brings a judged commit to the forge: the branch by compare-and-swap, then the change; and finds what a dead attempt left.

Each step asks the world before it acts, so that repeating it is harmless (DESIGN section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tamma.core.change import Change, ChangeDraft, ChangeState, Marker, find_markers
from tamma.core.effect import Effect, EffectKind, EffectState, effect_key
from tamma.core.errors import PermanentError, TransientError
from tamma.core.event import ChangeDelivered
from tamma.core.ids import BlobId, Oid, TaskId, branch_name, task_id
from tamma.core.lease import Lease
from tamma.core.task import Task
from tamma.engine.effects import perform
from tamma.ports.forge import Forge
from tamma.ports.store import Store
from tamma.ports.system import FailPoints
from tamma.ports.workspace import PushResult, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What is to be brought to the forge. ``description`` names the blob with the change's text, so that another attempt
    can finish what this one began."""

    commit: Oid
    branch: str
    base: str
    title: str
    description: BlobId
    is_draft: bool = False


_OPEN: Final = frozenset({ChangeState.OPEN, ChangeState.DRAFT})


class Foreign(PermanentError):
    """The branch or the change is somebody else's: a human must decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Courier:
    """Who delivers: the store for intents and records, the forge, and the attempt's lease.

    ``guard`` proves at the database that the lease still holds; it is asked right before every effect, so that a worker
    that was stopped in between touches nothing.
    """

    store: Store
    forge: Forge
    fail_points: FailPoints
    task: Task
    lease: Lease
    guard: Callable[[], None]

    def record_found(self, commit: Oid, result: Mapping[str, str], *, only_push: bool = False) -> None:
        """The world was asked and has it: record what an attempt that died in between could not."""
        for effect in self.store.effects.of_task(self.task.id):
            is_ours = effect.intent.get("commit") == commit and effect.state is EffectState.INTENDED
            if is_ours and (effect.kind is EffectKind.PUSH or (effect.kind is EffectKind.CHANGE and not only_push)):
                self.store.effects.record(self.lease, key=effect.key, result=result)

    def find_pushed(self, head: Oid | None) -> Delivery | None:
        """A delivery of this task whose branch is already there, so that only the change is missing."""
        for effect in self.store.effects.of_task(self.task.id):
            if effect.kind is EffectKind.PUSH and head is not None and effect.intent.get("commit") == head:
                return _delivery_of(effect)
        return None

    def expected_head(self, head: Oid | None, changes: Sequence[Change]) -> Oid | None:
        """What the branch may be replaced at: nothing, a commit of ours, or Foreign is raised.

        Ours is what a recorded intent of any generation names, or a marker written by our own user (SECURITY C4).
        """
        if head is None:
            return None
        marked = {m.head for c in changes if c.author == self.forge.user for m in find_markers(c.body)}
        if head in marked or head in self._intended_heads():
            return head
        raise Foreign(
            f"the branch {branch_name(self.task.ref)} already exists with commits that are not Tamma's",
            why=f"it is at {head}, which no recorded intent and no marker of ours names",
            fix="rename or delete the branch, then `tamma task approve` lets the task go on",
        )

    def push(self, workspace: Workspace, delivery: Delivery, *, expected: Oid | None) -> None:
        """Move the branch from ``expected`` to the commit. Raises Foreign if somebody else moved it meanwhile."""

        def act(_: Effect) -> dict[str, str]:
            self.guard()
            result = workspace.push(delivery.commit, branch=delivery.branch, expected=expected)
            if result is PushResult.REJECTED:
                self._look_who_moved(delivery, workspace.branch_head(delivery.branch))
            return {"commit": delivery.commit, "push": result}

        perform(
            self.store.effects, self.fail_points, self.lease, step="push", kind=EffectKind.PUSH,
            key=self._key(EffectKind.PUSH, delivery, is_there=workspace.branch_head(delivery.branch) == delivery.commit),
            intent=_intent_of(delivery, expected), act=act,
        )  # fmt: skip

    def _key(self, kind: EffectKind, delivery: Delivery, *, is_there: bool) -> str:
        """The natural key; one of this attempt where the record says done and the world, which was asked, says otherwise.

        Commits are deterministic, so an attempt may make the very commit whose branch a human has deleted since.
        """
        key = effect_key(self.task.id, kind, delivery.commit[:16])
        done = any(e.key == key and e.state is EffectState.DONE for e in self.store.effects.of_task(self.task.id))
        return f"{key}:{self.lease.epoch}" if done and not is_there else key

    def _has_open_change(self, delivery: Delivery) -> bool:
        found = self.forge.changes(self.task.ref.repository, head=delivery.branch)
        return any(c.author == self.forge.user and c.state in _OPEN and c.base == delivery.base for c in found)

    def _look_who_moved(self, delivery: Delivery, head: Oid | None) -> None:
        """The forge refused to move the branch: raise what decides who acts, unless our commit is there all the same."""
        if head == delivery.commit:
            return
        self.guard()  # a lost lease is another attempt at work
        moved = f"the branch {delivery.branch} moved while this change was made"
        if head in self._intended_heads():
            raise TransientError(
                moved, why="the push of an earlier attempt arrived late", fix="nothing: the next attempt finds it"
            )
        raise Foreign(
            moved,
            why="the forge refused to replace what it holds now",
            fix="look at the branch, then `tamma task approve` lets the task go on",
        )

    def open_change(self, delivery: Delivery) -> ChangeDelivered:
        """Open the change, or find it open; the fact to record."""
        text = self.store.blobs.get(delivery.description) or b""
        marker = Marker(what="change", task=self.task.id, head=delivery.commit)
        draft = ChangeDraft(
            repository=self.task.ref.repository,
            head=delivery.branch,
            base=delivery.base,
            title=delivery.title,
            body=f"{text.decode()}\n\n{marker}\n",
            issue=self.task.ref,
            is_draft=delivery.is_draft,
        )

        def act(_: Effect) -> dict[str, str]:
            self.guard()
            change = self.forge.open_change(draft)
            return {"change": change.id, "url": change.url}

        effect = perform(
            self.store.effects, self.fail_points, self.lease, step="change", kind=EffectKind.CHANGE,
            key=self._key(EffectKind.CHANGE, delivery, is_there=self._has_open_change(delivery)),
            intent=_intent_of(delivery, None), act=act,
        )  # fmt: skip
        return self.delivered(delivery.commit, change=effect.result["change"], url=effect.result["url"])

    def delivered(self, commit: Oid, *, change: str, url: str) -> ChangeDelivered:
        """The fact."""
        return ChangeDelivered(
            epoch=self.lease.epoch, change=change, url=url, branch=branch_name(self.task.ref), commit=commit
        )

    def conclude(self, fact: ChangeDelivered) -> None:
        """The delivery stands. What earlier attempts intended with other commits will never be done."""
        for effect in self.store.effects.of_task(self.task.id):
            is_moot = effect.state is EffectState.INTENDED and effect.kind in {EffectKind.PUSH, EffectKind.CHANGE}
            if is_moot and effect.intent.get("commit") != fact.commit:
                self.store.effects.abandon(self.lease, key=effect.key, result={"instead": fact.commit})
        self.store.claims.record(self.lease, fact)

    def _intended_heads(self) -> set[str]:
        found: set[str] = set()
        for generation in range(1, self.task.generation + 1):
            earlier = task_id(self.task.ref, kind=self.task.kind, generation=generation)
            for effect in self.store.effects.of_task(earlier):
                if effect.kind is EffectKind.PUSH and effect.state is not EffectState.ABANDONED:
                    found.add(effect.intent.get("commit", ""))
        return found


def marked_head(change: Change, task: TaskId) -> Oid | None:
    """The commit that our marker in a change of our own names for this task."""
    return next((m.head for m in find_markers(change.body) if m.task == task), None)


def _intent_of(delivery: Delivery, expected: Oid | None) -> dict[str, str]:
    return {
        "branch": delivery.branch,
        "expected": expected or "",
        "commit": delivery.commit,
        "base": delivery.base,
        "title": delivery.title,
        "description": delivery.description,
        "draft": "yes" if delivery.is_draft else "",
    }


def _delivery_of(effect: Effect) -> Delivery:
    return Delivery(
        commit=Oid(effect.intent["commit"]),
        branch=effect.intent["branch"],
        base=effect.intent["base"],
        title=effect.intent["title"],
        description=BlobId(effect.intent["description"]),
        is_draft=bool(effect.intent["draft"]),
    )
