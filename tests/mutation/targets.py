"""What is mutated, and which tests must notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_STORE: Final = "tests/adapters/postgres/test_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file, the scopes of it that count (a pattern; "" for all), and its tests, the quickest to notice first."""

    tests: tuple[str, ...]
    scopes: str = ""
    is_sampled: bool = False  # whether each run of the tests tries a few: quick, and nothing of it is known to survive
    strings: bool = False  # whether the words themselves decide, as in a check of names


def _store(*names: str) -> tuple[str, ...]:
    return tuple(f"{_STORE}{name}.py" for name in names)


TARGETS: Final = {
    "tamma/core/task.py": Target(is_sampled=True,
        tests=("tests/core/test_task.py", "tests/core/test_attempt.py"),
        scopes="TERMINAL|LIVE|CLAIMABLE|TRANSITIONS|Counters|Task|next_state|advance",
    ),
    "tamma/core/attempt.py": Target(is_sampled=True, tests=("tests/core/test_attempt.py", "tests/core/test_reconcile.py")),
    "tamma/core/policy.py": Target(is_sampled=True, tests=("tests/core/test_policy.py",), scopes="LeasePolicy|RetryPolicy"),
    "tamma/core/effect.py": Target(is_sampled=True, tests=("tests/core/test_effect.py",), strings=True),
    "tamma/core/change.py": Target(is_sampled=True, tests=("tests/core/test_change.py",), scopes="_MARKER|Marker|find_markers|notice_marker", strings=True),
    "tamma/core/ids.py": Target(tests=("tests/core/test_ids.py",), strings=True),
    "tamma/core/paths.py": Target(tests=("tests/core/test_paths.py",), strings=True),
    "tamma/engine/heartbeat.py": Target(tests=("tests/engine/test_heartbeat.py",)),
    "tamma/engine/attempt.py": Target(is_sampled=True, tests=("tests/engine/test_attempt.py",)),
    "tamma/adapters/git/push.py": Target(tests=("tests/adapters/git/test_push.py",), strings=True),
    "tamma/adapters/postgres/sql.py": Target(is_sampled=True, tests=_store("fence", "store_claims", "store_tasks", "store_effects", "store_bystanders")),
    "tamma/adapters/postgres/claims.py": Target(tests=_store("fence", "store_claims", "lost_replies", "renewals", "store_bystanders", "store_tasks")),
    "tamma/adapters/postgres/dispatch.py": Target(tests=_store("fence", "store_tasks", "store_bystanders")),
    "tamma/adapters/postgres/effects.py": Target(tests=_store("fence", "store_effects", "lost_replies", "store_bystanders", "store_claims")),
    "tamma/adapters/postgres/tasks.py": Target(tests=_store("store_tasks", "store", "store_claims", "fence", "store_bystanders", "archive")),
    "tamma/adapters/postgres/workers.py": Target(tests=_store("store", "lost_replies", "store_bystanders", "store_tasks", "archive")),
}  # fmt: skip
