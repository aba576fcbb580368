"""What the engine asks of the world, as protocols; semantics are in the docstrings."""
