"""Chaos by hand and in CI: real processes, killed at random, and an oracle that shares no code with the product."""
