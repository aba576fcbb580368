"""What the kernel knows about running processes. Shared by adapters; standard library only, and light to import."""
