"""Titles as parts of URLs."""

import re


def slugify(title: str) -> str:
    """The title in lower case, with a hyphen between its words."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
