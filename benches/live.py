#!/usr/bin/env python3
"""A live session beside what the simulator says it did, or many beds at a time.

    benches/live.py rough PROGRAMS NIGHT.edf [--speed 200]
    benches/live.py beds  PROGRAMS NIGHT.edf --bundle X.sfm --beds 64,256 --seconds 180 [--cores 0]
    benches/live.py flood PROGRAMS NIGHT.edf --rate 1000,4000,20000 --seconds 30

PROGRAMS is the folder of sfm-stream and sfm-sim. `rough` plays a night over UDP with loss, repetition,
disorder, damage, drift and 20 outages, and prints the gap ledger beside the simulator's report, the
stages beside those of the night without faults, and the memory by hour. `beds` plays it in real time
to as many sessions, prints the delay from an epoch's last sample to its event and the CPU time, and, of
several numbers of beds, the largest at which every epoch was staged before the next one was in.
`flood` plays one bed in real time over UDP while strangers send so many datagrams a second, each from
another of 10,000 addresses of 127.0.0.0/8 (samples, hellos of made-up devices, noise), and prints what of
the bed's samples was lost.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib

FAULTS = (
    "--sensors 2 --seed 1 --loss 0.01 --duplicate 0.005 --reorder 0.01 --corrupt 0.001 "
    "--drift-ppm 200,-200 --disconnects 20 --memory 30"
).split()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def proc(pid):
    """Resident memory in MB and CPU seconds of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, ticks / os.sysconf("SC_CLK_TCK")


def stages(out):
    with open(out / "hypnogram.csv", newline="") as file:
        return [row["stage"] for row in csv.DictReader(file)]


def rough(args, dir):
    stream, sim = args.programs / "sfm-stream", args.programs / "sfm-sim"
    port = free_port()
    host = subprocess.Popen(
        [stream, "--udp", f"127.0.0.1:{port}", "--devices", "2", "--speed", str(args.speed)]
        + ["--out", dir / "out", "--age", "60", "--sex", "m"],
        stdout=subprocess.DEVNULL,
        stderr=open(dir / "stream.log", "w"),
    )
    time.sleep(1)
    sensors = subprocess.Popen(
        [sim, args.night, "--udp", f"127.0.0.1:{port}", "--speed", str(args.speed)]
        + FAULTS
        + ["--report", dir / "sim.json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    begin, hour = time.time(), 0
    while sensors.poll() is None:
        if (time.time() - begin) * args.speed / 3600 >= hour + 1:
            hour += 1
            print(f"hour {hour}: {proc(host.pid)[0]:.1f} MB, {proc(host.pid)[1]:.1f} s of CPU time")
        time.sleep(0.2)
    assert host.wait() == 0, (dir / "stream.log").read_text()
    subprocess.run(
        [stream, "--replay", args.night, "--pass", "final", "--out", dir / "clean"]
        + ["--age", "60", "--sex", "m"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    report = json.loads((dir / "sim.json").read_text())
    links = json.loads((dir / "out" / "night.json").read_text())["links"]
    ledgers = {(int(c["device"], 16), c["label"]): c["ledger"] for c in links["channels"]}
    exact = True
    print("channel       taken     lost (injected)   repeated (injected)   out of order, resent, late")
    for device in report["devices"]:
        for channel in device["channels"]:
            ledger = ledgers[device["device"], channel["label"]]
            lost = ledger["lost"] - ledger["late"]
            exact &= (lost, ledger["duplicate"]) == (channel["lost"], channel["duplicate"])
            print(
                f"{channel['label']:10} {channel['taken']:9} {lost:8} ({channel['lost']:7}) "
                f"{ledger['duplicate']:10} ({channel['duplicate']:8}) "
                f"{ledger['reordered']:10} {ledger['resent']:7} {ledger['late']:5}"
            )
    damaged = sum(c["frames_corrupted"] for d in report["devices"] for c in d["channels"])
    exact &= damaged == links["frames"]["rejected"]
    print(f"damaged frames: {links['frames']['rejected']} ({damaged}); the ledger is exact: {exact}")

    live, clean = stages(dir / "out"), stages(dir / "clean")
    whole = [True] * len(clean)
    for line in (dir / "out" / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "gap" and event["pass"] == "final":
            end_s = event["onset_s"] + event["duration_s"]
            for epoch in range(int(event["onset_s"] // 30), int(end_s // 30) + 1):
                if epoch < len(whole):
                    whole[epoch] = False
    pairs = [(a, b) for a, b, w in zip(live, clean, whole) if w]
    same = sum(a == b for a, b in pairs)
    print(f"{same} of {len(pairs)} epochs without loss have the clean night's stage", end="")
    print(f" ({100 * same / len(pairs):.1f} %); {sum(map(str.__eq__, live, clean))} of all {len(live)}")
    assert exact
    assert same >= 0.98 * len(pairs)


def frame(message):
    """COBS of the message and its CRC-32, as firmware-bridge/PROTOCOL.md has it."""
    body = message + struct.pack("<I", zlib.crc32(message))
    out = b"".join(bytes([len(group) + 1]) + group for group in body.split(b"\0"))
    return out + b"\0"


def strangers(port, rate, seconds):
    """Sends the flood; prints how many datagrams it was."""
    schema = bytes.fromhex("f794d790cd24926f")
    sockets, sent, begin = [], 0, time.time()
    for number in range(10000):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}", 0))
        s.connect(("127.0.0.1", port))
        sockets.append(s)
    begin = time.time()
    while (now := time.time() - begin) < seconds:
        while sent < now * rate:
            varint = bytes([0x80 | sent & 127, 0x80 | sent >> 7 & 127, 0x80 | sent >> 14 & 127, 1])
            hello = b"\0\1" + schema + varint + varint + b"\xc0\x84\x3d\1\5flood"
            samples = b"\2\0" + varint + varint + b"\0\x40" + bytes(64)
            said = [frame(hello), frame(samples), b"\x55" * 200, b""][sent % 4]
            try:
                sockets[sent % len(sockets)].send(said)
            except OSError:
                pass
            sent += 1
        time.sleep(0.001)
    print(sent)


def flood(args, dir):
    for rate in [int(rate) for rate in args.rate.split(",")]:
        run_flood(args, dir / str(rate), rate)


def run_flood(args, dir, rate):
    dir.mkdir()
    stream, sim = args.programs / "sfm-stream", args.programs / "sfm-sim"
    port, metrics = free_port(), free_port()
    host = subprocess.Popen(
        [stream, "--udp", f"127.0.0.1:{port}", "--beds", "--pass", "live", "--out", dir / "beds"]
        + ["--metrics", f"127.0.0.1:{metrics}"],
        stdout=subprocess.DEVNULL,
        stderr=open(dir / "stream.log", "w"),
    )
    time.sleep(3)
    sensor = subprocess.Popen(
        [sim, args.night, "--udp", f"127.0.0.1:{port}", "--duration", str(args.seconds + 20)]
        + ["--report", dir / "sim.json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(15)
    before = proc(host.pid)
    strangers = subprocess.run(
        [sys.executable, __file__, "strangers", str(port), str(rate), "--seconds", str(args.seconds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = proc(host.pid)
    sensor.wait()
    time.sleep(5)
    text = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics").read().decode()
    host.terminate()
    host.wait()
    refused = dict(re.findall(r'sfm_refused_total\{kind="(\w+)"\} (\d+)', text))
    device = json.loads((dir / "sim.json").read_text())["devices"][0]
    taken = sum(channel["taken"] for channel in device["channels"])
    folder = dir / "beds" / f"{device['device']:016x}"
    received = 0
    if (folder / "night.json").exists():
        links = json.loads((folder / "night.json").read_text())["links"]
        received = sum(c["ledger"]["received"] - c["ledger"]["duplicate"] for c in links["channels"])
    folders = len(list((dir / "beds").iterdir())) if (dir / "beds").exists() else 0
    logged = sum(f.stat().st_size for f in dir.rglob("*") if f.name in ("stream.log", "session.jsonl"))
    print(
        f"{rate}/s, {strangers.stdout.strip()} sent: {taken - received} of the bed's {taken} samples lost "
        f"({100 * (taken - received) / taken:.1f} %), {folders} beds, "
        f"{100 * (after[1] - before[1]) / args.seconds:.0f} % of a core, {after[0]:.0f} MB, {logged} bytes of log; "
        f"refused: {refused}"
    )


def quantile(metrics, part):
    """Upper bound of the bucket in which a part of sfm_epoch_delay_seconds lies, over all beds."""
    buckets, count = {}, 0
    for bound, value in re.findall(r'sfm_epoch_delay_seconds_bucket\{[^}]*le="([^"]+)"\} (\d+)', metrics):
        buckets[float(bound)] = buckets.get(float(bound), 0) + int(value)
    count = max(buckets.values(), default=0)
    return next((b for b in sorted(buckets) if count and buckets[b] >= part * count), None), count


def beds(args, dir):
    held = 0
    for number in [int(number) for number in args.beds.split(",")]:
        if run_beds(args, dir / str(number), number):
            held = number
    print(f"every deadline was kept with {held} beds")


def run_beds(args, dir, number):
    """Whether every epoch was staged in the 30 s there are."""
    dir.mkdir()
    stream, sim = args.programs / "sfm-stream", args.programs / "sfm-sim"
    port, metrics = free_port(), free_port()
    cores = ["taskset", "-c", args.cores] if args.cores else []
    host = subprocess.Popen(
        cores
        + [stream, "--tcp", f"listen:127.0.0.1:{port}", "--beds", "--pass", "live", "--out", dir / "beds"]
        + ["--metrics", f"127.0.0.1:{metrics}"]
        + (["--bundle", args.bundle] if args.bundle else [])
        + (["--threads", str(len(args.cores.split(",")))] if args.cores else []),
        stdout=subprocess.DEVNULL,
        stderr=open(dir / "stream.log", "w"),
    )
    time.sleep(5)
    sensors = subprocess.Popen(
        [sim, args.night, "--tcp", f"127.0.0.1:{port}", "--beds", str(number), "--seed", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(10)
    before, begin = proc(host.pid), time.time()
    time.sleep(args.seconds)
    after, took = proc(host.pid), time.time() - begin
    text = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics").read().decode()
    skipped = sum(map(float, re.findall(r"sfm_provisional_epochs_skipped_total\{[^}]*\} (\S+)", text)))
    (half, count), (p99, _) = quantile(text, 0.5), quantile(text, 0.99)
    sensors.terminate()
    host.terminate()
    host.wait()
    cpu = (after[1] - before[1]) / took
    print(
        f"{number} beds: {count} epochs, delay at most {half} s (median), {p99} s (99th percentile), "
        f"{skipped:.0f} skipped; {100 * cpu:.1f} % of a core, {after[0]:.0f} MB"
    )
    return p99 is not None and p99 < 30 and skipped == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    if sys.argv[1:2] == ["strangers"]:
        return strangers(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[5]))
    parser.add_argument("what", choices=["rough", "beds", "flood"])
    parser.add_argument("--rate", default="20000", help="flood: one number or several, datagrams a second")
    parser.add_argument("programs", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("night", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--speed", type=float, default=200)
    parser.add_argument("--bundle", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--beds", default="64", help="one number or several, e.g. 64,256")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--cores", default="", help="e.g. 0,1: the cores of sfm-stream")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as dir:
        {"rough": rough, "beds": beds, "flood": flood}[args.what](args, pathlib.Path(dir))


if __name__ == "__main__":
    main()
