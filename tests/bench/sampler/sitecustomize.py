"""Imported by Python at its start if this folder is on its path: samples a worker of the gateway.

Each millisecond a timer's signal has the main thread look at how much CPU it used since, by its own clock,
and where it is; a thread looks at all others. (At the main thread too it would look when that lets go of the
interpreter, which it does in few places.) That is added up by stage: the innermost module of ``relay`` on
the stack. The sums stand in ``SAMPLER_FOLDER``/PID.json, written anew a few times each second.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

_SECONDS = 0.001
# Until a new worker no longer has the supervisor's way to hear of signals.
_SETTLE_SECONDS = 0.5
_TOLD_EVERY = 200  # looks
# So that a look waits for no more than a tenth of itself.
_SWITCH_SECONDS = 0.0001


def _stage(frame: FrameType | None) -> str:
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("relay."):
            if frame.f_code.co_name == "_sign_digest":
                return "signing: RSA"
            return ".".join(module.split(".")[1:3])
        frame = frame.f_back
    return "(outside)"


class _Sampler:
    def __init__(self) -> None:
        self.used: Counter[str] = Counter()  # nanoseconds by "thread: stage"
        self._before: dict[int, int] = {}
        self._main_before = time.thread_time_ns()

    def run(self) -> None:
        time.sleep(_SETTLE_SECONDS)
        sys.setswitchinterval(_SWITCH_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS, _SECONDS)
        apart = {threading.get_ident(), threading.main_thread().ident}
        for look in itertools.count():
            time.sleep(_SECONDS)
            if look % _TOLD_EVERY == 0:
                self._write()
            frames = sys._current_frames()
            for thread in threading.enumerate():
                if thread.ident is not None and thread.ident not in apart:
                    self._look(thread.name, thread.ident, frames.get(thread.ident))

    def tick(self, _: int, frame: FrameType | None) -> None:
        """In the main thread, between two of its steps."""
        now = time.thread_time_ns()
        self.used[f"main: {_stage(frame)}"] += now - self._main_before
        self._main_before = now

    def _look(self, name: str, ident: int, frame: FrameType | None) -> None:
        try:
            now = time.clock_gettime_ns(time.pthread_getcpuclockid(ident))
        except OSError:  # it ended just now
            return
        used = now - self._before.get(ident, now)
        self._before[ident] = now
        if used:
            self.used[f"{name}: {_stage(frame)}"] += used

    def _write(self) -> None:
        target = Path(os.environ["SAMPLER_FOLDER"]) / f"{os.getpid()}.json"
        unfinished = target.with_suffix(".tmp")
        unfinished.write_text(json.dumps(self.used))
        unfinished.rename(target)


def _start() -> None:
    sampler = _Sampler()
    signal.signal(signal.SIGALRM, sampler.tick)
    threading.Thread(target=sampler.run, name="sampler", daemon=True).start()


if os.environ.get("SAMPLER_FOLDER"):
    os.register_at_fork(after_in_child=_start)  # the supervisor forks its workers
