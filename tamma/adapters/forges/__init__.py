"""Forges: where issues come from and changes go to."""
