"""Tamma turns labelled issues into pull requests worth merging."""
