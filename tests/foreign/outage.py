"""What mqtt.py, nats_jetstream.py and prometheus.py share: a recording, a run of sfm-stream, what it has to say, and outages.

Not a script. `SFM_LONG=1` makes the outage ten minutes long instead of eight seconds.
"""

import atexit
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import numpy
import pyedflib

LONG = os.environ.get("SFM_LONG") == "1"
OUTAGE_S = 600 if LONG else 8
# The night of 72 minutes lasts longer than the outage in the middle of it.
FAST = 240
SPEED = 5 if LONG else FAST
# How long the first messages may take.
BEFORE_S = 240 if LONG else 60
# Everything a file's name may be, and what must not leave the machine.
NAME = 'a+b #1 <script> "Zoë" 夜$'
PATIENT = "Doe_Jane"
# Letters: digits alone stand in a probability sooner or later.
PATIENT_CODE = "X-4711-Q"

TOLD = {"epoch", "gap", "quality", "modality", "warning", "started", "night"}


def need(*programs):
    for program in programs:
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None:
            print(f"skipped: no {program} (Debian's package of that name)")
            raise SystemExit(0)


def program(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, within_s=20.0):
    """Waits until `what()` is true; false if it never was."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def long_night(path, times=12):
    """The repository's recording several times over, under a patient's name, with a flat stretch."""
    with pyedflib.EdfReader("tests/data/mini/psg.edf") as source:
        headers = source.getSignalHeaders()
        signals = [numpy.tile(source.readSignal(i, digital=True), times) for i in range(len(headers))]
    signals[0][len(signals[0]) // 3: len(signals[0]) // 3 + len(signals[0]) // 20] = 0
    with pyedflib.EdfWriter(str(path), len(headers), pyedflib.FILETYPE_EDFPLUS) as writer:
        writer.setSignalHeaders(headers)
        writer.setPatientName(PATIENT)
        writer.setPatientCode(PATIENT_CODE)
        writer.writeSamples([s.astype(numpy.int32) for s in signals], digital=True)


def run_until_the_end(command, **more):
    """A process that does not outlive this one."""
    process = subprocess.Popen(command, **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | more)
    atexit.register(process.kill)
    return process


def stream(binary, recording, out, *arguments):
    command = [binary, "--replay", str(recording), "--out", str(out), "--backend", "tract", *arguments]
    return run_until_the_end(command, stderr=subprocess.PIPE, text=True)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def events(out):
    """What `events.jsonl` holds that is told to others, whole lines only."""
    text = (pathlib.Path(out) / "events.jsonl").read_bytes()
    lines = text[:text.rfind(b"\n") + 1].splitlines()
    return [event for event in map(json.loads, lines) if event["event"] in TOLD]


def canonical(event):
    return json.dumps({key: value for key, value in event.items() if key != "id"}, sort_keys=True)


def newest(told):
    """The epochs that `stage` has: those that no later one was before."""
    latest, stages = 0, []
    for event in told:
        if event["event"] == "epoch" and event["epoch"] >= latest:
            latest = event["epoch"]
            stages.append(event)
    return stages


def once(told):
    """Each event once: the two passes give some warnings twice."""
    return list(dict.fromkeys(canonical(event) for event in told))


def check_messages(messages, told, missing_at_the_end=0):
    """`messages` (leaf, id, body), first occurrences only, against `events`, in their order."""
    got = {}
    for leaf, _, body in messages:
        got.setdefault(leaf, []).append(canonical(json.loads(body)))
    for leaf in sorted(TOLD | {"stage"}):
        wanted = once(newest(told) if leaf == "stage" else [e for e in told if e["event"] == leaf])
        there = got.get(leaf, [])
        wanted = wanted[:len(there)] if len(wanted) - len(there) <= missing_at_the_end else wanted
        assert there == wanted, (leaf, len(there), len(wanted), set(there) ^ set(wanted))
    ids = [id for _, id, _ in messages]
    assert len(set(ids)) == len(ids)
    assert all(json.loads(body)["id"] == id for _, id, body in messages)
    assert not any(part in body for _, _, body in messages for part in (*PATIENT.split("_"), PATIENT_CODE))
    return {leaf: len(all) for leaf, all in got.items()}
