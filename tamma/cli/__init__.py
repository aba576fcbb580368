"""The command line: parse arguments, call bootstrap, print, exit."""
