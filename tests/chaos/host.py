"""One life of `sfm-stream`: its command, its end, its standard error, and what `/healthz` and `/metrics`
said at which time."""

import dataclasses
import fcntl
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

# Real seconds between two questions, and how long an answer may take.
ASK_EVERY_S = 0.25
ANSWER_S = 3.0
# Real seconds that a start and an orderly end may take on a busy machine.
START_S = 60.0
END_S = 20.0
F_SETPIPE_SZ = 1031

FAKETIME = [pathlib.Path(folder) / "faketime/libfaketimeMT.so.1"
            for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")]


def faketime():
    return next((path for path in FAKETIME if path.exists()), None)


@dataclasses.dataclass
class Answer:
    """What the host said of itself: `status` is None where it did not answer."""

    at_s: float
    status: str | None
    body: dict
    # By device: samples that are placed or counted as lost.
    accounted: dict


class Host:
    def __init__(self, command, log, port, patient, clock_file=None):
        self.command, self.patient, self.port = command, patient, port
        self.log_path = log
        self.answers = []
        self.ended = None
        self.exit_code = None
        # Pauses by SIGSTOP, as pairs of times.
        self.stopped = []
        self.reading = threading.Event()
        self.reading.set()
        reader, writer = os.pipe()
        fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
        environment = dict(os.environ)
        if clock_file is not None:
            environment |= {"LD_PRELOAD": str(faketime()), "FAKETIME_TIMESTAMP_FILE": str(clock_file),
                            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer,
                                        env=environment)
        # A way into the pipe that does not wait, to fill it up.
        self.filler = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
        os.close(writer)
        self.text = ""
        self.reader = threading.Thread(target=self.read, args=(reader,), daemon=True)
        self.reader.start()
        self.asker = threading.Thread(target=self.ask_on, daemon=True)
        self.asker.start()

    def read(self, reader):
        with open(self.log_path, "wb") as log:
            while True:
                self.reading.wait()
                piece = os.read(reader, 4096)
                if not piece:
                    break
                log.write(piece)
                log.flush()
                self.text += piece.decode("utf-8", "replace")
        os.close(reader)

    def stall_stderr(self):
        """Nobody reads standard error from now on, and it is full."""
        self.reading.clear()
        # What the reader is waiting for, and then the pipe.
        self.fill()
        time.sleep(0.05)
        self.fill()

    def fill(self):
        try:
            while True:
                os.write(self.filler, b"\n" * 512)
        except BlockingIOError:
            pass

    def says(self, text, within_s):
        """Waits until a text is on standard error."""
        end = time.monotonic() + within_s
        while time.monotonic() < end and self.is_running():
            if text in self.text:
                return True
            time.sleep(0.02)
        return text in self.text

    def is_running(self):
        return self.process.poll() is None

    def is_stopped(self, at_s):
        return any(begin <= at_s and (end is None or at_s <= end) for begin, end in self.stopped)

    def stop(self):
        self.stopped.append((time.monotonic(), None))
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        if self.is_running():
            self.process.send_signal(signal.SIGCONT)
        if self.stopped and self.stopped[-1][1] is None:
            self.stopped[-1] = (self.stopped[-1][0], time.monotonic())

    def end(self, how):
        """Ends it by a signal, or waits for its own end; False if it had to be killed."""
        self.ended = (how, time.monotonic())
        if how == "term":
            self.process.send_signal(signal.SIGTERM)
        elif how == "kill":
            self.process.kill()
        in_time = True
        try:
            self.process.wait(END_S if how != "bye" else 3 * END_S)
        except subprocess.TimeoutExpired:
            in_time = False
            self.process.kill()
            self.process.wait()
        self.close(how)
        return in_time

    def close(self, how):
        self.exit_code = self.process.wait()
        self.ended = (how, self.ended[1] if self.ended else time.monotonic())
        self.gone = time.monotonic()
        self.reading.set()
        if self.filler is not None:
            os.close(self.filler)
            self.filler = None
        self.reader.join()
        self.asker.join()

    def ask_on(self):
        while self.is_running():
            at_s = time.monotonic()
            answer = self.ask(at_s)
            if self.is_running():
                self.answers.append(answer)
            time.sleep(max(0.0, at_s + ASK_EVERY_S - time.monotonic()))

    def ask(self, at_s):
        try:
            body = json.loads(self.fetch("/healthz"))
            return Answer(at_s, body["status"], body, accounted(self.fetch("/metrics")))
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Answer(at_s, None, {"reasons": [str(error)]}, {})

    def fetch(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


SERIES = re.compile(r'^(sfm_samples_placed_total|sfm_ledger_total)\{([^}]*)\} (\S+)', re.M)


def accounted(metrics):
    """By device: samples that have their place or are counted as lost."""
    sums = {}
    for name, labels, value in SERIES.findall(metrics):
        device = re.search(r'device="([^"]*)"', labels)
        if device and (name == "sfm_samples_placed_total" or 'kind="lost"' in labels):
            sums[device[1]] = sums.get(device[1], 0) + float(value)
    return sums
