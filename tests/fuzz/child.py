# SPDX-License-Identifier: Apache-2.0
"""Read damaged inputs one after the other: ``python -m tests.fuzz.child SEED READERS FIRST LAST``; a JSON line each.

``--show`` writes the one input FIRST to standard output instead of reading it.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from random import Random

from commbench.errors import CommbenchError
from tests.fuzz.mutate import mutated
from tests.fuzz.readers import Reader, readers

LIMIT_S, START_S, ROOM_BYTES = 10, 120, 2 * 2**30
WAIT_S = 2 * START_S  # in all, where something waits


class HangError(BaseException):
    """An input takes too long."""


def verdict(read: Reader, path: Path, limit_s: int) -> tuple[str, str]:
    """(what came of it, in words); time is the processor's, for machines are busy."""
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    signal.alarm(WAIT_S)
    try:
        nonsense = read(path)
        return ("nonsense" if nonsense else "accepted"), nonsense
    except CommbenchError as error:
        said = str(error)
        said.encode()  # what cannot be printed is a traceback for the user
        return ("refused" if said.strip() else "nonsense"), said[:300]
    except MemoryError:
        return "memory", "more than 2 GiB"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def judged(read: Reader, path: Path, limit_s: int = LIMIT_S) -> tuple[str, str]:
    """The same, with what no reader may raise."""
    try:
        return verdict(read, path, limit_s)
    except HangError:
        return "hang", f"more than {limit_s} s of the processor"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {str(error)[:150]!a} at {Path(last.filename).name}:{last.lineno}"


def main(seed: str, names: Sequence[str], first: int, last: int, show: bool) -> None:
    """Make and read the inputs; each depends on the seed, its reader and its number alone."""

    def too_long(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGPROF, too_long)
    chosen = [one for one in readers() if one[0] in names]
    with tempfile.TemporaryDirectory() as folder:
        for _, file, read, seeds in [] if show else chosen:  # load and compile all before memory is counted
            for number, whole in enumerate(seeds):
                path = Path(folder, file)
                path.write_bytes(whole)
                said = judged(read, path, START_S)  # it compiles
                assert said[0] == "accepted", (path, number, said)
                path.unlink()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, -1))
        for number in range(first, last):
            name, file, read, seeds = chosen[number % len(chosen)]
            rng = Random(f"{seed} {name} {number}")
            data = mutated(rng.choice(seeds), rng)
            if show:
                sys.stdout.buffer.write(data)
                return
            path = Path(folder, file)
            path.write_bytes(data)
            before = time.process_time()
            said = judged(read, path)
            cpu_s, most = time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
            print(json.dumps([number, name, *said, round(cpu_s, 2), most]), flush=True)
            path.unlink()


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "svg"
    words = [word for word in sys.argv[1:] if word != "--show"]
    main(words[0], words[1].split(","), int(words[2]), int(words[3]), "--show" in sys.argv)
