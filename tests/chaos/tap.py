"""What every simulated sensor sends, seen on its way: a tap between `sfm-sim` and `sfm-stream` for each
sensor, over UDP or TCP. It notes every sample that leaves the sensor, and is the wire of the scenario:
it can be pulled, come from another address, or say bye. One thread for all taps.
"""

import pathlib
import random
import selectors
import socket
import struct
import sys
import threading
import time

import edf

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "foreign"))
import wire_protocol as wire  # noqa: E402

LOOPBACK = "127.0.0.1"
# Bytes of a stream that wait for the host before its sensor is not read any more.
MAX_HELD = 1 << 16
# Below those of outgoing connections.
PORTS = (15_000, 32_000)


class Sent:
    """Samples of one channel that left the sensor: when, and which."""

    def __init__(self, label, rate_hz):
        self.label, self.rate_hz = label, rate_hz
        # (time, boot, first index, how many, whether the wire took them)
        self.blocks = []

    def last_s(self, until_s):
        """When the newest samples until `until_s` went over the wire; None before the first."""
        return next((at_s for at_s, *_, went in reversed(self.blocks) if went and at_s <= until_s), None)


class Tap:
    """The wire of one sensor. `boot` is counted up by whoever switches the sensor on."""

    def __init__(self, name, kind, host):
        self.name, self.kind, self.host = name, kind, host
        self.device = None
        self.boot = 0
        self.channels = {}
        self.by_number = {}
        self.plugged = True
        # The sensor is about to say bye: its end of a stream closes before that is through.
        self.leaving = False
        self.source = LOOPBACK
        self.open_frame = b""
        self.held = b""
        self.inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        if kind == "tcp":
            self.inner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.inner.bind((LOOPBACK, 0))
        if kind == "tcp":
            self.inner.listen()
        else:
            self.inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.inner.setblocking(False)
        self.address = f"{LOOPBACK}:{self.inner.getsockname()[1]}"
        self.sensor = None
        self.outer = None
        self.abandoned = []
        self.lock = threading.RLock()

    def note(self, frame, went):
        """One frame of the sensor; returns it as it goes on, with the boot in its session."""
        try:
            message = wire.decode("device", frame)
        except wire.Refused:
            return frame + b"\0"
        if message["type"] == "Hello":
            self.device = f"{message['device']:016x}"
            # The simulator's session follows from its seed: each boot is to have its own.
            message["session"] ^= self.boot * 0x9E3779B97F4A7C15 & (1 << 53) - 1
            return wire.encode("device", message)
        if message["type"] == "Channel":
            label, rate_hz = message["label"], message["samples"] / message["seconds"]
            self.by_number[message["channel"]] = self.channels.setdefault(label, Sent(label, rate_hz))
        elif message["type"] == "Samples" and message["channel"] in self.by_number:
            first, count = span(message)
            self.by_number[message["channel"]].blocks.append((time.monotonic(), self.boot, first, count, went))
        return frame + b"\0"

    def from_sensor(self, data, whole):
        """Bytes of the sensor as they go on; of a stream, the frames that are complete."""
        pieces = (self.open_frame + data).split(b"\0")
        self.open_frame = b"" if whole else pieces.pop()
        went = self.plugged and self.outer is not None
        return b"".join(self.note(frame, went) if frame else b"\0" for frame in pieces)

    def connect(self):
        """A way to the host from the tap's present address, if there is a host."""
        kind = socket.SOCK_DGRAM if self.kind == "udp" else socket.SOCK_STREAM
        outer = socket.socket(socket.AF_INET, kind)
        try:
            outer.bind((self.source, 0))
            outer.settimeout(0.5)
            outer.connect(self.host)
        except OSError:
            outer.close()
            return None
        outer.setblocking(False)
        return outer

    def hang_up(self, quietly=False):
        """Takes the way to the host away; `quietly` leaves it open at the host's end."""
        with self.lock:
            if self.outer is not None and quietly:
                self.abandoned.append(self.outer)
            elif self.outer is not None:
                self.outer.close()
            self.outer = None
            self.held = b""
            if self.kind == "tcp" and self.sensor is not None:
                self.sensor.close()
                self.sensor = None

    def move(self, source, quietly):
        """The sensor has another address from now on."""
        with self.lock:
            self.source = source
            self.hang_up(quietly)
            if self.kind == "udp":
                self.outer = self.connect()

    def say_bye(self):
        with self.lock:
            self.send(wire.encode("device", {"type": "Bye", "reason": "Stopped"}))
            self.leaving = False
            if self.kind == "tcp":
                self.hang_up()

    def send(self, data):
        """To the host, if there is a way. A datagram that is not taken is lost; a stream's bytes wait."""
        if self.outer is None:
            return
        try:
            if self.kind == "tcp":
                self.held += data
                self.held = self.held[self.outer.send(self.held):] if self.held else b""
            elif data:
                self.outer.send(data)
        except (ConnectionRefusedError, BlockingIOError):
            pass
        except OSError:
            if self.kind == "tcp":
                self.hang_up()

    def reads(self, name):
        """A stream whose bytes go nowhere is not read: both ends have to wait."""
        return self.kind == "udp" or name == "inner" or (self.plugged and len(self.held) < MAX_HELD)

    def close(self):
        with self.lock:
            self.hang_up()
            for left in [*self.abandoned, self.inner]:
                left.close()


def span(message):
    """Index of the first sample of a frame, and how many there are: of a file that counts, the first value
    says all."""
    payload = bytes.fromhex(message["payload"])
    if message["format"] == "Delta":
        reader = wire.Reader(payload)
        count = reader.varint(32)
        reader.take(1)
        return edf.index_of(reader.read("i32")), count
    width = wire.FORMAT_BYTES[message["format"]]
    return edf.index_of(int.from_bytes(payload[:width], "little", signed=True)), len(payload) // width


class Taps:
    """Moves the bytes of all taps until it is closed."""

    def __init__(self, taps):
        self.taps = taps
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping.is_set():
            with selectors.DefaultSelector() as ready:
                for tap in self.taps:
                    for name in ("inner", "sensor", "outer"):
                        place = getattr(tap, name)
                        if place is not None and place.fileno() >= 0 and tap.reads(name):
                            ready.register(place, selectors.EVENT_READ, (tap, name))
                # Short, so that what the scenario changes is seen soon.
                for tap in self.taps:
                    with tap.lock:
                        if tap.held:
                            tap.send(b"")
                for key, _ in ready.select(0.02):
                    tap, name = key.data
                    with tap.lock:
                        if getattr(tap, name) is key.fileobj:
                            self.move(tap, name)

    def move(self, tap, name):
        try:
            if tap.kind == "udp":
                datagrams(tap, name)
            elif name == "inner":
                accept(tap)
            else:
                stream(tap, name)
        except BlockingIOError:
            pass
        except OSError:
            # Nobody at the host's end of a datagram is no reason to stop sending.
            if tap.kind == "tcp":
                tap.hang_up()

    def close(self):
        self.stopping.set()
        self.thread.join()
        for tap in self.taps:
            tap.close()


def datagrams(tap, name):
    if tap.outer is None:
        tap.outer = tap.connect()
    for _ in range(256):
        if name == "inner":
            data, tap.sensor_address = tap.inner.recvfrom(65536)
            data = tap.from_sensor(data, whole=True)
            if tap.plugged:
                tap.send(data)
        else:
            data = tap.outer.recv(65536)
            if tap.plugged and getattr(tap, "sensor_address", None):
                tap.inner.sendto(data, tap.sensor_address)


def accept(tap):
    connection, _ = tap.inner.accept()
    outer = tap.connect() if tap.plugged else None
    if outer is None:
        connection.close()
        return
    tap.hang_up()
    tap.sensor, tap.outer, tap.open_frame = connection, outer, b""
    connection.setblocking(False)


def stream(tap, name):
    data = getattr(tap, name).recv(65536)
    if not data and name == "sensor" and tap.leaving:
        tap.sensor.close()
        tap.sensor = None
    elif not data:
        tap.hang_up()
    elif name == "sensor":
        tap.send(tap.from_sensor(data, whole=False))
    else:
        tap.sensor.sendall(data)


def free_port():
    """A port that no outgoing connection is given: one of those would connect to itself while the host is
    down, and take its place."""
    for port in random.sample(range(*PORTS), 100):
        with socket.socket() as s, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams_too:
            try:
                s.bind((LOOPBACK, port))
                datagrams_too.bind((LOOPBACK, port))
                return port
            except OSError:
                continue
    raise OSError("no free port")


def reset(sock):
    """Closes a connection with an RST, as a scanner does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
