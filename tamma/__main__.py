"""``tamma`` and ``python -m tamma``."""

from tamma.cli.app import main

if __name__ == "__main__":
    main()
