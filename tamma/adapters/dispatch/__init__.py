"""Dispatchers: how a reserved task becomes a running worker."""
