"""Recovery objectives: how long after a fault Tamma works again, measured against what docs/operations.md states."""
