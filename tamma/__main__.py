"""``tamma`` and ``python -m tamma``."""

import gc

# What importing makes is no garbage: looking through it again and again would be an eighth of the start.
gc.set_threshold(50_000)

from tamma.cli.app import main  # noqa: E402 — after the line above, or it comes too late

if __name__ == "__main__":
    main()
