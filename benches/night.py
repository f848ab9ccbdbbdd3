#!/usr/bin/env python3
"""Times whole `sfm-stream` commands on a long recording, beside the PyTorch reference.

usage: night.py SFM_STREAM BUNDLE.sfm RECORDING [--runs N] [--engines tract,ort,cuda]
                [--passes final,live] [--threads N]
                [--reference 'PYTHON REFERENCE CHECKPOINTS [cuda]']

Prints the median wall-clock seconds, CPU seconds and peak memory of N runs (default 3) of each
command, taken in turn so that a slow moment of the machine hits all, and their ratios to the first.
`--reference` adds reference_night.py with that interpreter, which on a GPU wants a preprocessed
store for RECORDING. make_night.py makes a recording.
"""

import argparse
import os
import shlex
import statistics
import sys
import tempfile
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sfm_stream")
    parser.add_argument("bundle")
    parser.add_argument("recording")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--engines", default="tract,ort")
    parser.add_argument("--passes", default="final,live")
    parser.add_argument("--threads", default=str(os.cpu_count()))
    parser.add_argument("--reference")
    args = parser.parse_args()

    commands = {}
    if args.reference:
        python, reference, checkpoints, *device = shlex.split(args.reference)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference_night.py")
        commands["PyTorch reference"] = [python, script, reference, checkpoints, args.recording, *device]
    out = tempfile.mkdtemp()
    for name in args.passes.split(","):
        for engine in args.engines.split(","):
            commands[f"{name}, {engine}"] = [
                args.sfm_stream, "--replay", args.recording, "--bundle", args.bundle,
                "--pass", name, "--backend", engine, "--threads", args.threads,
                "--age", "60", "--sex", "m", "--out", os.path.join(out, f"{name}-{engine}"),
            ]  # fmt: skip
    figures = {name: [] for name in commands}
    for _ in range(args.runs):
        for name, command in commands.items():
            figures[name].append(run(command))

    first = None
    print(f"median of {args.runs} runs, {args.threads} threads")
    print(f"{'command':<20} {'wall s':>8} {'CPU s':>8} {'MB':>6} {'ratio':>7}")
    for name, runs in figures.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*runs))
        first = first or wall
        print(f"{name:<20} {wall:>8.1f} {cpu:>8.1f} {memory:>6.0f} {first / wall:>6.1f}x")


def run(command: list[str]) -> tuple[float, float, float]:
    """Wall-clock seconds, CPU seconds and peak resident MB of a command."""
    begin = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"failed: {shlex.join(command)}")
    wall = time.perf_counter() - begin
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
