from textkit import format_duration


def test_seconds():
    assert format_duration(42) == "42 s"


def test_minutes():
    assert format_duration(90) == "1 min 30 s"


def test_nothing_at_all():
    assert format_duration(0) == "0 s"
