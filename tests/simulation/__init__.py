"""Deterministic simulation: seeded interleavings of orchestrators, workers and people over a virtual clock."""
