"""What Tamma costs, measured against what people would use instead: ``python -m tests.benchmarks``."""
