"""Worker processes of a benchmark, as their driver holds them: started once, connected once, told to go many times."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from tests.benchmarks.place import ROOT

LEAD_SECONDS: Final = 0.05


class Hand:
    """One ``tests.benchmarks.hand`` process; it takes a JSON line and answers with one."""

    def __init__(self, kind: str, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.benchmarks.hand import main; main()", kind, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, **order: Any) -> None:
        """Send an order."""
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        """Wait for the answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker process ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it; a kind that never reads again is stopped."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def hands(kind: str, url: str, *, number: int = 1) -> Iterator[Sequence[Hand]]:
    """So many processes of one kind, connected and ready."""
    with ExitStack() as stack:
        found = []
        for _ in range(number):
            found.append(Hand(kind, url))
            stack.callback(found[-1].close)
        for hand in found:
            hand.hear()
        yield found


def go(crew: Sequence[Hand], *, expected: int) -> float:
    """Let all empty the queue together; jobs a second from the first one's begin to the last one's end."""
    at = time.monotonic() + LEAD_SECONDS
    for hand in crew:
        hand.tell(at=at)
    answers = [answer for hand in crew if (answer := hand.hear())["done"]]
    done = sum(int(answer["done"]) for answer in answers)
    if done != expected:
        raise RuntimeError(f"{done} jobs were done, not {expected}")
    last, first = max(float(answer["last"]) for answer in answers), min(float(answer["first"]) for answer in answers)
    return float(done) / (last - first)
