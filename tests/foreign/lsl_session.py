"""A session of sfm-stream over Lab Streaming Layer, with pylsl as the sensor: stages come, and the
recording holds every value that was sent, at its place.

    lsl_session.py [path of sfm-stream]
"""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy

try:
    import pyedflib
    import pylsl
    import pylsl.lib
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    raise SystemExit(0)

RATE_HZ = 200
SECONDS = 38  # an epoch, the filter's look-ahead, and the time it takes to find the stream
LABELS = ["EEG C4-M1", "EOG E1-M2", "EMG Chin", "ECG"]
HOLE = range(5000, 5150)  # never sent


def value(index, channel):
    """Microvolts: waves as of sleep, and noise by which each stretch is found again."""
    waves = 60 * math.sin(2 * math.pi * 9.7 * index / RATE_HZ) + 40 * math.sin(2 * math.pi * 1.3 * index / RATE_HZ)
    return round(waves) + (index * (40_503 + channel)) % 65_521 % 61 - 30


def outlet():
    info = pylsl.StreamInfo("sfm-bed", "EEG", len(LABELS), RATE_HZ, "int16", "amplifier-7")
    described = info.desc().append_child("channels")
    for label in LABELS:
        entry = described.append_child("channel")
        entry.append_child_value("label", label)
        entry.append_child_value("unit", "microvolts")
    return pylsl.StreamOutlet(info, 1, 360)


def send(stream, seconds):
    begin = pylsl.local_clock()
    for index in range(round(seconds * RATE_HZ)):
        due = begin + index / RATE_HZ
        time.sleep(max(0.0, due - pylsl.local_clock()))
        if index not in HOLE:
            stream.push_sample([value(index, c) for c in range(len(LABELS))], due)


def recorded(path):
    with pyedflib.EdfReader(str(path)) as file:
        labels = file.getSignalLabels()
        assert sorted(labels) == sorted(LABELS), labels
        assert {file.getSampleFrequency(i) for i in range(len(labels))} == {RATE_HZ}
        return {label: file.readSignal(i, digital=True) for i, label in enumerate(labels)}


def check_recording(signals):
    """Each channel is what was sent from some sample on; only the hole is filled with one value."""
    for channel, label in enumerate(LABELS):
        got = signals[label]
        sent = numpy.array([value(i, channel) for i in range(SECONDS * RATE_HZ)])
        starts = [s for s in range(len(sent) - RATE_HZ) if (sent[s : s + 50] == got[:50]).all()]
        assert len(starts) == 1, (label, starts)
        length = min(len(got), len(sent) - starts[0])
        differs = numpy.flatnonzero(got[:length] != sent[starts[0] : starts[0] + length]) + starts[0]
        # The last record is filled up where the session ended.
        assert all(i in HOLE or i > starts[0] + length - 2 * RATE_HZ for i in differs), (label, differs[:9])
        assert length > 31 * RATE_HZ, length
    return length


def main():
    stream = sys.argv[1] if len(sys.argv) > 1 else "target/release/sfm-stream"
    library = os.environ.get("SFM_LIBLSL") or str(
        next(iter(sorted(pathlib.Path(pylsl.lib.__file__).parent.glob("liblsl.so*"))))
    )
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        sender = outlet()
        host = subprocess.Popen(
            [stream, "--lsl", "name='sfm-bed'", "--out", out, "--pass", "live"],
            env=os.environ | {"SFM_LIBLSL": library},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        send(sender, SECONDS)
        host.send_signal(signal.SIGTERM)
        log = host.communicate(timeout=20)[1]
        assert host.returncode == 0, log
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        epochs = [e for e in events if e["event"] == "epoch" and e["status"] == "provisional"]
        assert epochs and epochs[0]["quality"] > 0.5, (epochs, log)
        samples = check_recording(recorded(out / "recording.edf"))
        links = json.loads((out / "night.json").read_text())["links"]
        lost = {c["label"]: c["ledger"]["lost"] for c in links["channels"]}
        assert lost == {label: len(HOLE) for label in LABELS}, lost
        print(f"{len(LABELS)} channels, {samples} samples each as sent, {len(HOLE)} lost ones counted, "
              f"{len(epochs)} epoch(s) staged")


if __name__ == "__main__":
    main()
