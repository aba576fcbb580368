"""Lines that must fit."""


def shorten(text: str, width: int) -> str:
    """The text if it fits, else its beginning and an ellipsis: at most ``width`` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"
