"""Every effect on the outside world goes one way: intent → compare-and-swap → record, with a fail point at each boundary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tamma.core.effect import Effect, EffectKind, EffectState
from tamma.core.ids import TaskId, WorkerId
from tamma.core.lease import Lease
from tamma.core.policy import LeasePolicy
from tamma.ports.store import Effects
from tamma.ports.system import FailPoints

BOUNDARIES: Final = ("before_intent", "after_intent", "before_effect", "after_effect", "after_record")
EFFECT_STEPS: Final = ("push", "change", "comment", "labels")


def perform(
    effects: Effects,
    fail_points: FailPoints,
    lease: Lease,
    *,
    step: str,
    key: str,
    kind: EffectKind,
    intent: Mapping[str, str],
    act: Callable[[Effect], Mapping[str, str]],
) -> Effect:
    """One effect of a live attempt. An effect that is done already is not done again.

    ``act`` does it so that repeating it is harmless (it looks before it creates) and returns the result to record.
    Raises what ``act`` raises, and LeaseLost when intent or record come too late.
    """
    fail_points.reach(f"{step}.before_intent")
    effect = effects.intend(lease, key=key, kind=kind, intent=intent)
    if effect.state is EffectState.DONE:
        return effect
    fail_points.reach(f"{step}.after_intent")
    fail_points.reach(f"{step}.before_effect")
    result = act(effect)
    fail_points.reach(f"{step}.after_effect")
    recorded = effects.record(lease, key=key, result=result)
    fail_points.reach(f"{step}.after_record")
    return recorded


def perform_unleased(
    effects: Effects,
    fail_points: FailPoints,
    task_id: TaskId,
    *,
    step: str,
    key: str,
    kind: EffectKind,
    intent: Mapping[str, str],
    by: WorkerId,
    leases: LeasePolicy,
    act: Callable[[], Mapping[str, str]],
) -> bool:
    """One effect after an attempt's end, by whoever holds it; False if somebody else does now."""
    fail_points.reach(f"{step}.before_intent")
    held = effects.intend_unleased(task_id, key=key, kind=kind, intent=intent, by=by, hold=leases.duration)
    if held is None:
        return False
    if held.state is EffectState.DONE:
        return True
    fail_points.reach(f"{step}.after_intent")
    fail_points.reach(f"{step}.before_effect")
    if not effects.holds(
        key, by=by
    ):  # stopped for too long: somebody else did it, and a human may have acted on it since
        return False
    result = act()
    fail_points.reach(f"{step}.after_effect")
    effects.record_unleased(task_id, key=key, result=result, by=by)
    fail_points.reach(f"{step}.after_record")
    return True
