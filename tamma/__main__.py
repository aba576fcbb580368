"""``tamma`` and ``python -m tamma``."""

from tamma.cli.garbage import collect_rarely

collect_rarely()

from tamma.cli.app import main  # noqa: E402 — after the line above, or it comes too late

if __name__ == "__main__":
    main()
