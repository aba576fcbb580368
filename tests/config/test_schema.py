"""Claims about the schema: described, bounded, named with units; templates load; overrides win key by key."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from tamma.config import policies
from tamma.config.keys import plain, walk
from tamma.config.loader import load
from tamma.config.problems import bounds_of
from tamma.config.schema import Config
from tamma.config.template import render
from tamma.config.toml import to_toml
from tamma.core.policy import AgentPolicy, ChangePolicy, LeasePolicy, Limits, RetryPolicy, SelectionPolicy

NUMBERS_WITHOUT_UNIT = {"workers": "a count of processes, as every such tool names it"}
FIELDS = [pytest.param(path, info, id=".".join(path)) for path, info, _ in walk()]


@pytest.mark.parametrize(("path", "info"), FIELDS)
def test_each_key_is_described_and_each_number_bounded(path: tuple[str, ...], info: FieldInfo) -> None:
    """Every key says what it means; every number has both bounds and its unit last in its name."""
    assert info.description
    assert info.description.endswith(".")
    if plain(info.annotation) in (int, float):
        assert "at least" in bounds_of(info) or "more than" in bounds_of(info)
        assert "at most" in bounds_of(info)
        assert path[-1].endswith(("_max", "_seconds")) or path[-1] in NUMBERS_WITHOUT_UNIT


def test_defaults_of_the_file_are_those_of_the_core() -> None:
    """No configuration is the policy that the core has by itself."""
    config = Config()
    assert policies.as_limits(config.limits) == Limits()
    assert policies.as_retry_policy(config.retry) == RetryPolicy()
    assert policies.as_lease_policy(config.lease) == LeasePolicy()
    assert policies.as_selection_policy(config.select) == SelectionPolicy()
    assert policies.as_change_policy(config.change) == ChangePolicy()
    assert policies.as_agent_policy(config.agent) == AgentPolicy()


def test_a_repository_overrides_key_by_key() -> None:
    """Raising one limit does not lose the protected paths of the top level; gates are replaced as a list."""
    gate = {"name": "a", "argv": ["x"]}
    config = Config.model_validate(
        {
            "change": {"protected_paths": ["secret/**"], "files_max": 1},
            "gates": [gate],
            "repositories": {"demo": {"change": {"files_max": 7}}, "bare": {"gates": []}},
        }
    )
    demo = policies.for_repository(config, "demo")
    assert (demo.change.files_max, demo.change.protected_paths) == (7, ("secret/**",))
    assert [g.name for g in demo.gates] == ["a"]
    assert policies.for_repository(config, "bare").gates == ()
    assert policies.for_repository(config, "other").change == config.change


WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda t: bool(t.strip())
)
ARGV = st.lists(WORDS, min_size=1, max_size=4)
VALUES = st.fixed_dictionaries(
    {
        "limits": st.fixed_dictionaries({"workers": st.integers(0, 64), "tick_seconds": st.floats(0.05, 3600)}),
        "agent": st.fixed_dictionaries(
            {"argv": ARGV, "env": st.dictionaries(st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), WORDS)}
        ),
        "environment": st.fixed_dictionaries({"setup": st.lists(ARGV, max_size=3)}),
        "gates": st.lists(
            st.fixed_dictionaries(
                {"name": st.from_regex(r"[a-z]{1,9}", fullmatch=True), "argv": ARGV, "required": st.booleans()}
            ),
            unique_by=lambda gate: gate["name"],
            max_size=3,
        ),
        "change": st.fixed_dictionaries({"test_paths": st.lists(WORDS)}),
        "repositories": st.dictionaries(
            st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
            st.fixed_dictionaries(
                {"base_branch": WORDS, "change": st.fixed_dictionaries({"files_max": st.integers(1, 9)})}
            ),
            max_size=2,
        ),
    }
)


@given(VALUES)
def test_what_is_written_is_read_back(values: dict[str, object]) -> None:
    """A file rendered from any values loads as exactly these values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tamma.toml"
        path.write_text(render(values), encoding="utf-8")
        assert load(path, environ={}, cwd=Path(folder)).config == Config.model_validate(values)


@pytest.mark.parametrize(("path", "info"), FIELDS)
def test_a_commented_line_of_the_template_is_a_default_or_says_that_it_is_an_example(
    path: tuple[str, ...], info: FieldInfo
) -> None:
    """Who takes the # off one knows whether that changes anything."""
    has_default = not info.is_required() and info.default not in (None, (), {})
    name = path[-1]
    if has_default:
        line = f"# {name} = {to_toml(info.default)}"
    else:
        why = "must be set" if info.is_required() else "default: none"
        line = f"# {name} = {to_toml(info.examples[0] if info.examples else None)}  # {why}; an example"
    assert line in render({}).splitlines()


def test_every_commented_line_of_the_template_loads_too(tmp_path: Path) -> None:
    """The template cannot rot: with each `#` taken off its keys it is still a configuration."""
    text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", render({}), flags=re.MULTILINE)
    text = re.sub(r"^(direct_)?url_file = .*\n", "", text, flags=re.MULTILINE)  # never together with url
    path = tmp_path / "tamma.toml"
    path.write_text(text, encoding="utf-8")
    found = load(path, environ={}, cwd=tmp_path)
    assert len(found.origins) > 60
