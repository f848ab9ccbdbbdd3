"""LSL streams of pylsl as the runtime receives them: every sample, holes, labels, units, clocks.

    lsl.py [path of lsl_dump]

Needs pylsl, whose wheel brings liblsl. The outlets are in this process, on this machine.
"""

import collections
import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import numpy

try:
    import pylsl
    import pylsl.lib
except ImportError:
    print("skipped: pylsl is not installed")
    raise SystemExit(0)

RATE_HZ = 250
SECONDS = 8
HOLES = {300: 1, 700: 40, 1200: 333}  # sample index: samples that are never sent
UNITS = ["microvolts", "volts", "%"]


def library():
    folder = pathlib.Path(pylsl.lib.__file__).parent
    return os.environ.get("SFM_LIBLSL") or str(next(iter(sorted(folder.glob("liblsl.so*")))))


def outlet(name, channel_format, channels, labeled=True):
    info = pylsl.StreamInfo(name, "EEG", channels, RATE_HZ, channel_format, f"source-of-{name}")
    if labeled:
        described = info.desc().append_child("channels")
        for channel in range(channels):
            entry = described.append_child("channel")
            entry.append_child_value("label", f"L{channel}")
            entry.append_child_value("unit", UNITS[channel % 3])
    return pylsl.StreamOutlet(info, 1, 360)


def value(kind, index, channel):
    if kind == "float32":
        wave = 30_000 * math.sin(index / 40) + channel / 7
        return [wave, wave * 1e-6, float("nan") if index % 50 == 7 else wave / 300][channel]
    bits = {"int8": 8, "int16": 16, "int32": 32}[kind]
    # Over the whole range, its ends included.
    return [(index * 40_503) % (1 << bits) - (1 << bits - 1), (1 << bits - 1) - 1, -(1 << bits - 1)][channel]


def send(outlets, stop):
    """Samples on a grid of time, with holes; sent when they are due."""
    begin = pylsl.local_clock()
    index = 0
    while not stop.is_set():
        due = begin + index / RATE_HZ
        if index in HOLES:
            index += HOLES[index]
            continue
        time.sleep(max(0.0, due - pylsl.local_clock()))
        for kind, stream in outlets.items():
            stream.push_sample([value(kind, index, channel) for channel in range(3)], due)
        index += 1
    return begin


def received(dump, query, environment):
    output = subprocess.run([dump, query, str(SECONDS)], env=environment, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    channels, samples, hellos, times = {}, collections.defaultdict(dict), [], []
    for line in output.stdout.splitlines():
        _, what, rest = line.split(" ", 2)
        if what == "hello":
            hellos.append(rest.split(" ", 2))
        elif what == "channel":
            fields = rest.split("|")
            channels[int(fields[0])] = fields[1:]
        elif what == "samples":
            channel, counter, tick, values = re.fullmatch(r"(\d+) (\d+) (\d+) \[(.*)\]", rest).groups()
            for i, v in enumerate(int(v) for v in values.split(", ")):
                assert int(counter) + i not in samples[int(channel)], "a sample came twice"
                samples[int(channel)][int(counter) + i] = (int(tick) / 1e6 + i / RATE_HZ, v)
        elif what == "time":
            times.append([int(v) for v in rest.split()])
        else:
            raise AssertionError(line)
    return hellos, channels, samples, times


def digital(kind, channel, v):
    if kind != "float32":
        return v
    single = numpy.float32(v)
    if math.isnan(single):
        return None
    # Rounding half away from zero, as Rust does.
    steps = float(single) * (1e6 if UNITS[channel] == "volts" else 1.0) * 100.0
    return int(math.copysign(math.floor(abs(steps) + 0.5), steps))


def check(kind, begin, hellos, channels, samples, times):
    assert len({tuple(hello) for hello in hellos}) == 1 and f"LSL sfm-{kind}" in hellos[0][2], hellos
    units = ["uV", "uV", "%"] if kind == "float32" else UNITS
    assert [(c[0], c[1], c[2]) for _, c in sorted(channels.items())] == [
        (f"L{i}", units[i], f"{RATE_HZ}/1") for i in range(3)], channels
    # Clocks: LSL's is this process's, as far as the replies' two ticks say.
    assert len(times) >= 2 * SECONDS - 3, times
    assert all(0 <= sent - arrived < 50_000 for _, arrived, sent in times), times
    spread = [arrived / 1e6 - pylsl.local_clock() for _, arrived, _ in times]
    assert all(-SECONDS - 10 < s < 0.1 for s in spread), spread
    # Each sample is the one of its time; numbers go up by one a slot, holes included.
    offsets, count, lost = set(), 0, 0
    for channel, got in samples.items():
        for counter, (time_s, v) in got.items():
            index = round((time_s - begin) * RATE_HZ)
            assert abs((time_s - begin) * RATE_HZ - index) < 0.3, (index, time_s - begin)
            offsets.add(index - counter)
            assert v == digital(kind, channel, value(kind, index, channel)), (kind, channel, index, v)
            count += 1
        first, last = min(got), max(got)
        offset = next(iter(offsets))
        absent = {c + offset for c in range(first, last) if c not in got}
        holes = {i for start, n in HOLES.items() for i in range(start, start + n)}
        holes |= {i for i in range(first + offset, last + offset) if i % 50 == 7 and (kind, channel) == ("float32", 2)}
        assert absent == {i for i in holes if first + offset < i < last + offset}, sorted(absent ^ holes)[:10]
        lost += len(absent)
    assert len(offsets) == 1, offsets
    assert count > 3 * RATE_HZ * (SECONDS - 4), count
    print(f"{kind}: {count} samples equal, {lost} lost ones at their places")


def sender_comes_back(dump, environment):
    """A sender that ends and starts again is the same device in another session."""
    # Its channel has neither a label nor a unit.
    stream = outlet("sfm-reboot", "int16", 1, labeled=False)
    process = subprocess.Popen([dump, "name='sfm-reboot'", str(SECONDS)], env=environment,
                               stdout=subprocess.PIPE, text=True)
    for part in range(2):
        for index in range(3 * RATE_HZ):
            stream.push_sample([index])
            time.sleep(1 / RATE_HZ)
        if part == 0:
            del stream
            time.sleep(0.5)
            stream = outlet("sfm-reboot", "int16", 1, labeled=False)
    lines = process.communicate()[0].splitlines()
    hellos = [tuple(line.split(" ")[2:4]) for line in lines if " hello " in line]
    assert len({device for device, _ in hellos}) == 1 and len({session for _, session in hellos}) == 2, hellos
    last_hello = max(i for i, line in enumerate(lines) if " hello " in line)
    assert any(" samples " in line for line in lines[last_hello:]), "nothing after the sender came back"
    assert any("|CH1||" in line.replace("channel 0", "") for line in lines), lines[:3]
    print("a sender that starts again is a new session of the same device")


def refusals(dump, environment):
    absent = subprocess.run([dump, "name='nobody'", "1"], env=environment | {"SFM_LIBLSL": "/nowhere/liblsl.so"},
                            capture_output=True, text=True)
    assert absent.returncode == 3 and "pip install pylsl" in absent.stderr and absent.stderr.count("\n") == 1
    markers = pylsl.StreamOutlet(pylsl.StreamInfo("sfm-markers", "Markers", 1, 0, "string", "m"))
    refused = subprocess.run([dump, "name='sfm-markers'", "1"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 3 and "text" in refused.stderr, refused.stderr
    del markers
    print("refused in one line: no library, a stream of text")


def main():
    dump = sys.argv[1] if len(sys.argv) > 1 else "target/release/examples/lsl_dump"
    environment = os.environ | {"SFM_LIBLSL": library()}
    kinds = ["int8", "int16", "int32", "float32"]
    outlets = {kind: outlet(f"sfm-{kind}", kind, 3) for kind in kinds}
    stop, result = threading.Event(), {}
    sender = threading.Thread(target=lambda: result.update(begin=send(outlets, stop)))
    sender.start()
    try:
        runs = {}
        receivers = [threading.Thread(target=lambda kind=kind: runs.update(
            {kind: received(dump, f"name='sfm-{kind}'", environment)})) for kind in kinds]
        for receiver in receivers:
            receiver.start()
        for receiver in receivers:
            receiver.join()
    finally:
        stop.set()
        sender.join()
    for kind in kinds:
        check(kind, result["begin"], *runs[kind])
    sender_comes_back(dump, environment)
    refusals(dump, environment)


if __name__ == "__main__":
    main()
