"""Agents: programs that edit a workspace."""

from tamma.adapters.agents.command import CommandAgent, PromptBy
from tamma.adapters.agents.scripted import ScriptedAgent

__all__ = ["CommandAgent", "PromptBy", "ScriptedAgent"]
