"""The examples are as good as the tests."""
