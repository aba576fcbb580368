"""Environments: what a repository needs before its gates and agent can run, prepared once."""

from tamma.adapters.environments.cache import CachedEnvironments

__all__ = ["CachedEnvironments"]
