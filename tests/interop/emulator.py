"""The emulator's process, for scripts that run a client against it."""

import json
import queue
import subprocess
import threading
import time

# Long enough for a busy machine, short enough to see a client hang.
PATIENCE = 30


class Emulator:
    """The emulator's process and what it says."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = self._next(time.monotonic() + PATIENCE)
        check(self.ready.get("ready") is True, f"no ready line but {self.ready}")

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def _next(self, deadline):
        try:
            line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError("the emulator said nothing in time") from None
        check(line is not None, "the emulator ended")
        return line

    def expect(self, event, **members):
        """Waits for an event of that name with those members; others are passed over."""
        deadline = time.monotonic() + PATIENCE
        passed = []
        while True:
            try:
                line = self._next(deadline)
            except AssertionError as reason:
                raise AssertionError(f"{event} {members}: {reason}; passed: {passed}") from None
            if line.get("event") == event and members.items() <= line.items():
                return line
            passed.append(line)

    def end(self):
        # A process that does not listen is killed.
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def check(condition, message):
    if not condition:
        raise AssertionError(message)
