"""Claims about the keys of effects: a restored database, or an older release, must arrive at the same ones."""

from __future__ import annotations

from tamma.core.effect import Effect, EffectKind, EffectState, effect_key
from tamma.core.ids import TaskId


def test_the_key_of_an_effect_never_changes() -> None:
    """These texts are promises."""
    assert [effect_key(TaskId("t"), kind) for kind in EffectKind] == ["t:push", "t:change", "t:comment", "t:labels"]
    assert effect_key(TaskId("t"), EffectKind.COMMENT, "asked") == "t:comment:asked"
    assert [str(state) for state in EffectState] == ["intended", "done", "abandoned"]


def test_an_effect_of_which_nothing_is_known_is_only_intended() -> None:
    """Nothing counts as done that nobody recorded."""
    effect = Effect(key="k", task_id=TaskId("t"), kind=EffectKind.PUSH)
    assert (effect.state, effect.epoch, effect.intent, effect.result) == (EffectState.INTENDED, 0, {}, {})
