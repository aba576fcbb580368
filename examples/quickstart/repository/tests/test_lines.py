from textkit import shorten


def test_what_fits_stays():
    assert shorten("short", 10) == "short"


def test_what_does_not_fit_is_cut():
    assert shorten("a longer line", 9) == "a longer…"
