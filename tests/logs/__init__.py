"""Claims about the logs."""
