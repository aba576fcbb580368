"""Small things that text needs before people read it."""

from textkit.durations import format_duration
from textkit.lines import shorten
from textkit.slugs import slugify

__all__ = ["format_duration", "shorten", "slugify"]
