"""Log lines from events, by loguru."""
