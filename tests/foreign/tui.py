"""The terminal view in the terminal emulator pyte, through a pseudo-terminal: it starts, shows a
stage, survives a terminal of 40 x 12, and leaves the terminal as it found it. The same of a live
session with the sensors of sfm-sim, which lies beside SFM_STREAM: they fall silent and come back, and
what is left in the folder is whole.

    tui.py SFM_STREAM RECORDING
"""

import csv
import fcntl
import json
import os
import pathlib
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

import h5py
import pyedflib
import pyte

from outage import free_port, long_night

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


def live(program, recording, folder, key, name):
    sensors, out = f"127.0.0.1:{free_port()}", pathlib.Path(tempfile.mkdtemp(dir=folder))
    terminal = Terminal([program, "--udp", sensors, "--devices", "2", "--speed", "20", "--out", out, "--backend", "tract",
                         "--tui"], folder)
    check(f"{name}: it waits for sensors", terminal.shows(f"waiting for sensors: udp {sensors}"))
    simulator = subprocess.Popen([pathlib.Path(program).with_name("sfm-sim"), recording, "--udp", sensors,
                                  "--sensors", "2", "--speed", "20"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        check(f"{name}: a provisional stage is shown", terminal.shows(r"stage (W|N1|N2|N3|R)\b +provisional"))
        simulator.send_signal(signal.SIGSTOP)
        check(f"{name}: sensors that stand still are silent", terminal.shows(r"device [0-9a-f]{16}: silent since"))
        check(f"{name}: the head says so", terminal.shows(r"(?m)^(degraded: .*no samples for|failing: nothing has arrived for)"))
        check(f"{name}: their modalities are lost", terminal.shows("lost: BAS"))
        check(f"{name}: an epoch without them has no stage", terminal.shows(r"stage \? +provisional"))
        simulator.send_signal(signal.SIGCONT)
        check(f"{name}: they are heard again", terminal.shows(r"device [0-9a-f]{16}: heard again after"))
        check(f"{name}: and the head says no more", terminal.shows(r"(?s)^(?!.*\n(degraded|failing): )"))
        check(f"{name}: the gap is told", terminal.shows(r"\d+ gaps?, [\d.]+ s"))
        check(f"{name}: a stage is shown again", terminal.shows(r"stage (W|N1|N2|N3|R)\b +provisional"))
        terminal.press(key)
        check(f"{name}: ends the session, exit code 0", terminal.wait() == 0)
    finally:
        simulator.kill()
        simulator.wait()
    restored(terminal, name)
    behind = terminal.written.split(LEAVE)[-1]
    check(f"{name}: says how to go on", b"stopped; 'sfm-stream recover" in behind)
    whole(out, name)


def whole(out, name):
    """The files of a session that has ended, by readers that are not ours."""
    with pyedflib.EdfReader(str(out / "recording.edf")) as file:
        seconds, filetype = file.getFileDuration(), file.filetype
    check(f"{name}: recording.edf is EDF+C of {seconds} s", filetype == pyedflib.FILETYPE_EDFPLUS and seconds > 60)
    with h5py.File(out / "embeddings.h5") as file:
        patches = len(file["BAS"])
    # The last record is filled up, and a last part of a patch is none.
    check(f"{name}: embeddings.h5 has its {patches} patches", seconds - 10 < 5 * patches <= seconds)
    with open(out / "hypnogram.csv", newline="") as file:
        stages = [row["stage"] for row in csv.DictReader(file)]
    check(f"{name}: hypnogram.csv has every epoch, with and without a stage",
          len(stages) == -(-patches // 6) and {"?"} < set(stages) <= {"W", "N1", "N2", "N3", "R", "?"})
    night = json.loads((out / "night.json").read_text())
    check(f"{name}: night.json is of these epochs", night["statistics"]["trt_min"] * 2 == len(stages))
    said = [json.loads(line) for line in (out / "session.jsonl").read_text().splitlines()]
    check(f"{name}: session.jsonl ends with the session", said[-1]["event"] == "ended")


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
        sensors = os.path.join(folder, "sensors.edf")
        long_night(sensors, times=4)
        live(program, sensors, folder, b"q", "live, q")
        live(program, sensors, folder, b"\x03", "live, Ctrl-C")
        refused(program, recording, folder)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
