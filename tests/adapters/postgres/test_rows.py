"""Claims about values on their way into the database."""

from __future__ import annotations

import json
from types import MappingProxyType

from tamma.adapters.postgres.rows import json_of


def test_any_mapping_and_any_text_can_be_written() -> None:
    """Read-only views too, at any depth; what jsonb does not take is made fit, also where it hides behind an escape."""
    view = MappingProxyType({"a": MappingProxyType({"b": ("c", 1)})})
    assert json.loads(json_of(view)) == {"a": {"b": ["c", 1]}}
    for unfit in ("\0", "\ud800"):
        written = json_of(MappingProxyType({"a": MappingProxyType({unfit: [unfit]})}))
        assert "\\u0000" not in written
        written.encode()
