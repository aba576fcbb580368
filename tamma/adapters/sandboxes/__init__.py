"""Sandboxes: what stands between an agent or a gate and the machine."""
