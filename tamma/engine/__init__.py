"""The loop, the worker's pipeline, gates and delivery; it emits events and does not log."""
