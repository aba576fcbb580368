"""Checks on the checks: a guard is taken out of a copy of the code, and the tests that are there for it must go red."""
