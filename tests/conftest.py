"""Fixtures of every test; each theme has its own module in ``tests.support``."""

from __future__ import annotations

pytest_plugins = ["tests.support.postgres"]
