"""What `tamma init` tells to do next."""

from __future__ import annotations

from pathlib import Path

from tamma.bootstrap.admin import propose_config


def test_a_folder_that_is_no_checkout_leads_to_one(tmp_path: Path) -> None:
    """Not to a repository of Tamma's own folder, cloned into itself; a checkout elsewhere may become a repository yet."""
    (step,) = propose_config(tmp_path, beside=tmp_path).steps
    assert step.startswith("tamma init --force CHECKOUT")
    (elsewhere := tmp_path / "mine").mkdir()
    assert any("git init mine" in step for step in propose_config(elsewhere, beside=tmp_path).steps)
    (tmp_path / ".git").mkdir()
    assert len(propose_config(tmp_path, beside=tmp_path).steps) > 1
