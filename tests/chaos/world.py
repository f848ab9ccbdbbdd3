"""The bed of a scenario: its folder, its sensors with their wires, and the lives of `sfm-stream`, one after
the other. Everything it starts ends with it."""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import edf
import host as hosts
import plan as plans
import tap as taps

# Labels and rates of the sensors' channels. Slow enough that the value of a sample names it for 1,000 s.
CHANNELS = [
    [("EEG C3-M2", 64), ("EOG E1-M2", 32), ("SpO2", 1)],
    [("ECG", 64), ("Chin EMG", 32), ("Thor", 16)],
    [("Abdo", 16), ("Flow", 32)],
]
RECORDED_S = 1000
# The file system of a scenario whose disk runs full: only what is written takes memory.
DISK_BYTES = 3 << 30


class Sensor:
    """A simulated sensor; `seed` decides its identity."""

    def __init__(self, number, kind, seed, recording, programs, address):
        self.number, self.kind, self.seed = number, kind, seed
        self.recording, self.program = recording, programs / "sfm-sim"
        self.tap = taps.Tap(f"device {number}", kind, address)
        self.process = None
        # Something is done to it right now.
        self.is_busy = False
        self.log = None

    def switch_on(self, now_s):
        self.tap.boot += 1
        self.process = self.play(self.tap, now_s)

    def play(self, tap, now_s):
        # Its time in the file is the scenario's, so that no sample of a later boot looks like an earlier one.
        command = [self.program, self.recording, f"--{self.kind}", tap.address, "--speed", str(plans.SPEED)]
        command += ["--seed", str(self.seed), "--from", str(int(now_s) + 1)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)

    def is_on(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.is_on():
            self.process.send_signal(number)

    def lose_power(self):
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        # Nobody is there to close its connection.
        self.tap.hang_up(quietly=self.kind == "tcp")

    def leave(self):
        """It ends its session in order."""
        self.tap.leaving = True
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        if self.process is not None:
            self.process.wait()
        self.tap.say_bye()


@dataclasses.dataclass
class Excuse:
    """A stretch of real time in which samples of a device, or of all, have no place by design."""

    begin_s: float
    end_s: float
    why: str
    device: int | None = None


class World:
    def __init__(self, plan, programs, say):
        self.plan, self.programs, self.tell = plan, programs, say
        self.begun = time.monotonic()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"sfm-chaos-{plan.seed}-"))
        self.place = self.folder / "place"
        self.place.mkdir()
        self.is_mounted = False
        self.has_session_ids = "--session" in subprocess.run(
            [programs / "sfm-stream", "--help"], capture_output=True, text=True).stdout
        self.out = self.place / "night"
        self.udp, self.tcp, self.metrics = (taps.free_port() for _ in range(3))
        self.clock_file = None
        self.clock_s = 0
        self.wants_clock = any(step.what == "clock_step" for step in plan.steps)
        self.hosts = []
        self.patient = plan.patient
        self.excuses = []
        self.broken = []
        self.done = []
        # Sensors that said bye, with when; folders that a person took away, with the host of that time.
        self.left = []
        self.taken = []
        self.renamed = 0
        # How late this program is woken: what a busy machine adds to every bound.
        self.late_s = 0.0
        self.over_s = float("inf")
        # What every folder held when a host had ended, and which the next one may write to.
        self.snapshots = []
        self.sensors = []
        self.taps = None
        self.extra = []

    def say(self, text):
        self.tell(f"{self.now_s():6.1f} s  {text}")

    def fail(self, text):
        """An invariant does not hold."""
        self.broken.append(text)
        self.say(f"BROKEN: {text}")

    def now_s(self):
        return (time.monotonic() - self.begun) * plans.SPEED

    def open(self):
        if any(step.what == "disk_full" for step in self.plan.steps):
            self.mount()
        if self.wants_clock and hosts.faketime() is not None:
            self.clock_file = self.folder / "clock"
            self.set_clock(0)
        self.fill_before()
        for number, kind in enumerate(self.plan.links):
            recording = self.folder / f"device-{number}.edf"
            edf.write_counting(recording, CHANNELS[number], RECORDED_S)
            address = ("127.0.0.1", self.udp if kind == "udp" else self.tcp)
            sensor = Sensor(number, kind, self.plan.seed * 10 + number, recording, self.programs, address)
            sensor.log = open(self.folder / f"device-{number}.log", "ab")
            self.sensors.append(sensor)
        self.taps = taps.Taps([sensor.tap for sensor in self.sensors])

    def mount(self):
        if os.geteuid() == 0:
            options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", self.place]
            mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
            self.is_mounted = mounted.returncode == 0
        if not self.is_mounted:
            self.say("skipped: a full disk (only root may mount a small one)")

    def fill_disk(self):
        """No room for another byte: the file system is made as small as what is in it."""
        for _ in range(20):
            about = os.statvfs(self.place)
            used = (about.f_blocks - about.f_bfree) * about.f_frsize
            # Refused where more has come meanwhile.
            if self.resize(used):
                return
        self.fail("the disk cannot be made small")

    def free_disk(self):
        self.resize(DISK_BYTES)

    def resize(self, size):
        options = ["-o", f"remount,size={size}", self.place]
        return subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0

    def set_clock(self, offset_s):
        """The wall clock of hosts from now on, beside that of the machine."""
        new = self.folder / "clock.new"
        new.write_text(f"{offset_s:+d}\n")
        new.rename(self.clock_file)
        self.clock_s = offset_s

    def fill_before(self):
        """What is there before the first start and nobody's business."""
        (self.place / "notes.txt").write_text("not ours\n")
        if self.plan.before == "nothing":
            return
        self.out.mkdir()
        if self.plan.before == "foreign recording":
            (self.out / "recording.edf").write_bytes(b"somebody else's night" * 100)
            (self.out / "recording.bdf").write_bytes(b"and another one" * 100)
        else:
            (self.out / "session.json").write_bytes(b"")
            (self.out / "recording.edf").write_bytes(bytes(5000))

    def command(self, patient):
        age, sex, session_id = patient
        command = [str(self.programs / "sfm-stream"), "--udp", f"127.0.0.1:{self.udp}"]
        command += ["--tcp", f"listen:127.0.0.1:{self.tcp}", "--speed", str(plans.SPEED), "--out", str(self.out)]
        command += ["--backend", "tract", "--threads", "1", "--no-report", "--metrics", f"127.0.0.1:{self.metrics}"]
        command += ["--beds"] if self.plan.topology == "beds" else ["--devices", "2"]
        command += ["--age", str(age), "--sex", sex]
        return command + (["--session", session_id] if session_id and self.has_session_ids else [])

    @property
    def host(self):
        return self.hosts[-1]

    def start_host(self, patient=None):
        self.patient = patient or self.patient
        self.snapshots.append(snapshot(self.place))
        log = self.folder / f"stream-{len(self.hosts)}.log"
        host = hosts.Host(self.command(self.patient), log, self.metrics, self.patient, self.clock_file)
        self.hosts.append(host)
        if host.says("waiting for sensors", hosts.START_S):
            self.say(f"sfm-stream runs, patient {self.patient}")
        elif host.is_running():
            self.fail("sfm-stream does not get ready")
        else:
            self.check_host()

    def check_host(self):
        """A host that ended by itself is a fault, once; a service manager would start it again."""
        if not self.hosts or self.host.ended or self.host.is_running():
            return
        # Where all sensors said bye it may end.
        over = self.plan.end == "bye" and self.over_s < time.monotonic() and self.host.process.returncode == 0
        how = "bye" if over else "crash"
        self.host.ended = (how, time.monotonic())
        self.host.close(how)
        if over:
            return
        last = self.host.text.strip().splitlines()[-1:] or ["(it said nothing)"]
        self.fail(f"sfm-stream ended by itself with exit code {self.host.exit_code}: {last[0]}")

    def end_host(self, how):
        if not self.host.ended and self.host.is_running():
            self.say(f"sfm-stream ends by {how}")
            if not self.host.end(how):
                self.fail(f"sfm-stream does not end within {hosts.END_S:.0f} s of {how}")
            elif how != "kill" and self.host.exit_code not in (0, 5):
                self.fail(f"exit code {self.host.exit_code} after {how}: {self.host.text[-300:]}")
        self.check_host()

    def user_moved(self, number):
        """Folders that a person took away while host `number` ran, as beginnings of paths."""
        return [f"{name}/" for host, name in self.taken if host == number]

    def excuse(self, seconds_before, seconds_after, why, device=None):
        """From so long before now to so long after, in real seconds."""
        now = time.monotonic()
        self.excuses.append(Excuse(now - seconds_before, now + seconds_after, why, device))
        return self.excuses[-1]

    def close_programs(self):
        for sensor in self.sensors:
            sensor.signal(signal.SIGCONT)
            sensor.signal(signal.SIGKILL)
            if sensor.process is not None:
                sensor.process.wait()
        for process in self.extra:
            process.kill()
            process.wait()
        if self.hosts and not self.host.ended:
            self.host.go_on()
            self.host.end("kill")
        if self.taps is not None:
            self.taps.close()
            self.taps = None

    def close(self):
        self.close_programs()
        for sensor in self.sensors:
            sensor.log.close()
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.place], check=False)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def snapshot(place):
    """Of every file: what it is and what is in it. Locks are no content."""
    files = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.endswith(".lock"):
            about = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files[path.relative_to(place)] = (about.st_ino, about.st_size, about.st_mtime_ns, digest)
    return files
