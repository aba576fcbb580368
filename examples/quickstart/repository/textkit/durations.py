"""Durations as people say them."""


def format_duration(seconds: int) -> str:
    """``90`` is ``1 min 30 s``; nothing at all is ``0 s``."""
    minutes, rest = divmod(seconds, 60)
    parts = [f"{minutes} min"] if minutes else []
    if rest or not parts:
        parts.append(f"{rest} s")
    return " ".join(parts)
