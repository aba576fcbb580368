"""Configuration: schema, loader and the origin of every value."""
