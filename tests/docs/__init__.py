"""Claims about the docs."""
