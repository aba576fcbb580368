"""Claims about the config."""
