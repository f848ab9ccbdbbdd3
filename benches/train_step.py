#!/usr/bin/env python3
"""Times a training step (forward, backward, AdamW) beside PyTorch, in turn, in one run.

usage: train_step.py TRAIN_STEP [--network base|tokenizer|pooling|encoder|lstm] [--batch N]
                     [--threads N] [--runs N] [--steps N] [--dropout P] [--device cpu|cuda]

TRAIN_STEP is what `cargo bench --bench train_step --no-run` built (for `--device cuda` with
`--features cuda`); run this with a Python that has PyTorch, whose modules are those of
tests/foreign/torch_base.py. Prints for each program the median seconds of a step, windows (or
nights) a second, CPU seconds of a step with start and warm-up included, peak memory, and the
speed beside PyTorch's eager fp32. On a GPU: fp32 and bf16, and torch.compile; memory is the GPU's,
as the driver counts it, the context of about 500 MiB included.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

CHANNELS = [4, 4, 2, 2]
NETWORKS = ["base", "tokenizer", "pooling", "encoder", "lstm"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("train_step")
    parser.add_argument("--network", choices=NETWORKS, default="base")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--torch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch:
        return torch_steps(options)

    common = [
        f"--{name}={getattr(options, name)}"
        for name in ("network", "batch", "threads", "steps", "dropout", "device")
    ]
    ours = [options.train_step, *(word for option in common for word in option.split("="))]
    torch = [sys.executable, __file__, options.train_step, *common]
    commands = {"PyTorch eager": [*torch, "--torch=eager"], "sfm-train": [*ours, "--float", "f32"]}
    if options.device == "cuda":
        commands["PyTorch eager bf16"] = [*torch, "--torch=bf16"]
        commands["PyTorch compile"] = [*torch, "--torch=compile"]
        commands["PyTorch compile bf16"] = [*torch, "--torch=compile-bf16"]
        commands["sfm-train bf16"] = [*ours, "--float", "bf16"]
    seconds = {name: [] for name in commands}
    cpu, peak = dict.fromkeys(commands, 0.0), dict.fromkeys(commands, 0)
    for _ in range(options.runs):
        for name, command in commands.items():
            lines, used, gpu = run(command, options)
            seconds[name] += [line["seconds"] for line in lines[1:]]
            cpu[name] += used / len(lines) / options.runs
            peak[name] = max(peak[name], *(gpu or [line["peak_mib"] for line in lines]))
    first = statistics.median(seconds["PyTorch eager"])
    unit = "nights/s" if options.network == "lstm" else "windows/s"
    print(f"{options.network}, batch {options.batch}, {options.threads} threads, {options.device}")
    print(f"{'':22}{'s/step':>8}{'range':>16}{unit:>11}{'CPU s/step':>12}{'peak MiB':>10}{'speed':>8}")
    for name, values in seconds.items():
        median = statistics.median(values)
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(
            f"{name:22}{median:8.2f}{spread:>16}{options.batch / median:11.2f}{cpu[name]:12.2f}"
            f"{peak[name]:10}{first / median:7.2f}x"
        )


def run(command, options):
    """The child's JSON lines, the CPU seconds it used, and the GPU's memory in MiB over time."""
    env = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    gpu = options.device == "cuda" and subprocess.Popen(
        ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-lms", "100"],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    lines = [json.loads(line) for line in child.stdout]
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{command[0]}: exit {os.waitstatus_to_exitcode(status)}")
    memory = []
    if gpu:
        gpu.terminate()
        memory = [int(line) for line in gpu.communicate()[0].split()]
    return lines, used.ru_utime + used.ru_stime, memory


def torch_steps(options):
    """This process as PyTorch's: one JSON line a step."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "foreign"))
    import torch

    from torch_base import Base

    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    noise = lambda *shape: torch.randn(*shape, device=device)  # noqa: E731
    base, batch = Base(dropout=options.dropout), options.batch
    if options.network == "base":
        module = base
        inputs = [noise(batch, c, 60, 640) for c in CHANNELS]
        inputs = [(x, torch.ones(x.shape[:3], device=device)) for x in inputs]
    elif options.network == "tokenizer":
        module = base.tokenizer
        inputs = [(noise(batch * c * 60, 640),) for c in CHANNELS]
    elif options.network == "pooling":
        module = base.pooling
        inputs = [(noise(batch * 60, c, 128), torch.ones(batch * 60, c, device=device)) for c in CHANNELS]
    elif options.network == "encoder":
        module = base.encoder
        inputs = [(noise(batch, 60, 128), torch.ones(batch, 60, device=device)) for _ in CHANNELS]
    else:
        module = torch.nn.LSTM(128, 64, 2, bidirectional=True, batch_first=True)
        inputs = [(noise(batch, 5760, 128),)]
    module = module.to(device).train()
    forward = torch.compile(module) if "compile" in options.torch else module
    optimizer = torch.optim.AdamW(module.parameters(), 1e-4)

    def mean_square(output):
        if options.network == "lstm":
            output = output[0]
        parts = output if isinstance(output, tuple) else (output,)
        return sum(part.square().mean() for part in parts)

    def loss():
        return sum(mean_square(forward(*given)) for given in inputs)

    for _ in range(options.steps + 1):
        start = time.perf_counter()
        with torch.autocast(options.device, torch.bfloat16, enabled="bf16" in options.torch):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if options.device == "cuda":
            torch.cuda.synchronize()
        status = pathlib.Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) >> 10
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
