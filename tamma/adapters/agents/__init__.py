"""Agents: programs that edit a workspace."""
