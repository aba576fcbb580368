"""Mutation testing of the code that leases, fences, counts and validates: ``python -m tests.mutation``."""
