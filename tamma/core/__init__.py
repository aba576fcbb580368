"""Values and decisions: standard library only; no I/O, clock, chance or logging."""
