"""Workspaces on git: a mirror per repository, a trusted git-dir per attempt, a tree read by our own walk."""

from tamma.adapters.git.command import PROTOCOLS, Transport
from tamma.adapters.git.workspaces import GitWorkspaces

__all__ = ["PROTOCOLS", "GitWorkspaces", "Transport"]
