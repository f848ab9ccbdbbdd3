"""The terminal view in the terminal emulator pyte, through a pseudo-terminal: it starts, shows a
stage, survives a terminal of 40 x 12, and leaves the terminal as it found it.

    tui.py SFM_STREAM RECORDING
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

import pyte

FAILURES = []
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        FAILURES.append(what)


class Terminal:
    """A program in a terminal, and what it has written there."""

    def __init__(self, command, folder):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.screen = pyte.Screen(100, 32)
        self.stream = pyte.ByteStream(self.screen)
        self.size(100, 32)

        def controlling():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(command, cwd=folder, stdin=slave, stdout=slave,
                                        stderr=slave, preexec_fn=controlling)
        self.written = b""

    def size(self, columns, rows):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def read(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                data = os.read(self.master, 65536)
                self.written += data
                self.stream.feed(data)

    def shows(self, pattern, within=60):
        """Waits for text on the screen."""
        end = time.monotonic() + within
        while not re.search(pattern, "\n".join(self.screen.display)):
            if time.monotonic() > end or self.process.poll() is not None:
                print("\n".join(self.screen.display))
                return False
            self.read(0.1)
        return True

    def press(self, key):
        os.write(self.master, key)

    def wait(self, within=30):
        end = time.monotonic() + within
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        self.read(0.3)
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.before


def run(program, recording, more, folder):
    out = tempfile.mkdtemp(dir=folder)
    return Terminal([program, "--replay", recording, "--out", out, "--backend", "tract", "--tui",
                     *more], folder)


def restored(terminal, what):
    check(f"{what}: the other screen is entered and left once",
          terminal.written.count(ENTER) == terminal.written.count(LEAVE) == 1)
    check(f"{what}: echo and line mode are as before", terminal.is_as_before())
    check(f"{what}: nothing panicked", b"panicked" not in terminal.written)


def replay_to_its_end(program, recording, folder):
    terminal = run(program, recording, [], folder)
    check("a stage is shown", terminal.shows(r"stage (W|N1|N2|N3|R)\b"))
    check("it says what it is", terminal.shows("research software, not a medical device"))
    check("it stays when the night is over", terminal.shows("q leaves"))
    check("and the program waits", terminal.process.poll() is None)
    check("the terminal is held meanwhile", not terminal.is_as_before())
    terminal.press(b"q")
    check("q leaves with exit code 0", terminal.wait() == 0)
    restored(terminal, "end")
    behind = terminal.written.split(LEAVE)[-1]
    check("the summary comes behind the picture", b"Sleep statistics (final pass)" in behind)
    check("its lines did not go into the picture", b"TST" not in terminal.written.split(LEAVE)[0])


def replay_cut_short(program, recording, folder, key, name):
    terminal = run(program, recording, ["--speed", "30"], folder)
    check(f"{name}: a stage is shown", terminal.shows(r"stage (W|N1|N2|N3|R)\b"))
    terminal.size(40, 12)
    terminal.read(1.5)
    check(f"{name}: the stage is there at 40 x 12", terminal.shows(r"stage (W|N1|N2|N3|R)\b", 5))
    check(f"{name}: and the hypnogram", terminal.shows("hypnogram", 5))
    terminal.size(3, 2)
    terminal.read(0.5)
    terminal.press(key)
    code = terminal.wait()
    check(f"{name}: ends the run as Ctrl-C does, exit code {code}", code == 5)
    restored(terminal, name)
    check(f"{name}: says where the results are", b"interrupted; what was done is in" in terminal.written)


def signals(program, recording, folder):
    terminal = run(program, recording, ["--speed", "1"], folder)
    check("twice SIGTERM: a picture", terminal.shows("q ends"))
    terminal.process.send_signal(signal.SIGTERM)
    terminal.process.send_signal(signal.SIGTERM)
    terminal.wait()
    check("twice SIGTERM: echo and line mode are as before", terminal.is_as_before())


def refused(program, recording, folder):
    command = [program, "--replay", recording, "--tui"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    check("no terminal, no picture: one line and code 2",
          done.returncode == 2 and done.stderr.count("\n") == 1 and "terminal" in done.stderr)
    done = subprocess.run(command + ["--json"], cwd=folder, capture_output=True, text=True)
    check("not with --json", done.returncode == 2 and "--json" in done.stderr)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__)
        return 2
    program, recording = (os.path.abspath(path) for path in arguments)
    with tempfile.TemporaryDirectory() as folder:
        replay_to_its_end(program, recording, folder)
        replay_cut_short(program, recording, folder, b"q", "q")
        replay_cut_short(program, recording, folder, b"\x03", "Ctrl-C")
        signals(program, recording, folder)
        refused(program, recording, folder)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
