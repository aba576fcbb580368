"""The names of the fail points: every boundary where a process may die and another must find its way on."""

from __future__ import annotations

from typing import Final

from tamma.core.attempt import Phase
from tamma.engine.effects import BOUNDARIES, EFFECT_STEPS

FAIL_POINTS: Final = frozenset(
    {
        "claim.after_record",
        # The last phase is entered by the settlement, which has names of its own.
        *(
            f"{phase}.{moment}"
            for phase in Phase
            if phase is not Phase.REPORT
            for moment in ("before_enter", "after_enter")
        ),
        *(f"agent.{moment}" for moment in ("before_run", "after_run")),
        *(f"{step}.{boundary}" for step in EFFECT_STEPS for boundary in BOUNDARIES),
        *(f"settle.{moment}" for moment in ("before_effect", "after_effect")),
    }
)
