from textkit import slugify


def test_words_are_joined_by_hyphens():
    assert slugify("Hello, World") == "hello-world"


def test_no_hyphens_at_the_ends():
    assert slugify("  (draft) ") == "draft"
