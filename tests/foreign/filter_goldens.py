"""Golden vectors of the zero-phase low-pass and the resampling, from scipy and numpy.

    filter_goldens.py           checks tests/data/filter against the installed scipy
    filter_goldens.py --write   writes it

goldens.json lists the cases, goldens.bin holds each case's float32 input, its float64 filtered
signal (scipy.signal.filtfilt) and its float64 resampled signal (numpy.interp), little-endian.
"""

import json
import pathlib
import sys

import numpy as np
import scipy
from scipy.signal import butter, filtfilt

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "filter"
GRID_HZ = 128.0
CUTOFF_HZ = 64.0
ORDER = 4
# name, rate in Hz, samples
CASES = [
    ("200 Hz", 200.0, 1301),
    ("256 Hz", 256.0, 1664),
    ("500 Hz", 500.0, 3251),
    ("512 Hz", 512.0, 3329),
    ("300.3 Hz", 300.3, 1500),
    ("one sample", 256.0, 1),
    ("shorter than the padding", 256.0, 9),
    ("as long as the padding", 256.0, 15),
    ("one longer than the padding", 256.0, 16),
    ("100 Hz, not filtered", 100.0, 401),
    ("1 Hz, not filtered", 1.0, 7),
    ("33.3 Hz, not filtered", 33.3, 101),
]


def signal(rng, rate, count):
    """Offset, drift, rhythms, noise, a step and spikes: the ends must not look like zero."""
    t = np.arange(count) / rate
    x = 40.0 + 7.0 * t + 30.0 * np.sin(2 * np.pi * 1.3 * t + 0.4) + 12.0 * np.sin(2 * np.pi * 61 * t)
    x += rng.normal(0.0, 10.0, count) + np.where(t > t.mean(), 80.0, 0.0)
    x[rng.integers(0, count, 1 + count // 400)] += 300.0
    return x.astype(np.float32)


def filtered(x, rate):
    x = x.astype(np.float64)
    if rate <= GRID_HZ:
        return x
    b, a = butter(ORDER, CUTOFF_HZ / (rate / 2))
    return filtfilt(b, a, x, padlen=min(3 * max(len(a), len(b)), len(x) - 1))


def resampled(y, rate):
    count = int(np.ceil(len(y) * GRID_HZ / rate - 1e-9))
    return np.interp(np.arange(count) / GRID_HZ, np.arange(len(y)) / rate, y)


def cases():
    rng = np.random.default_rng(20240607)
    for name, rate, count in CASES:
        x = signal(rng, rate, count)
        y = filtered(x, rate)
        yield name, rate, x, y, resampled(y, rate)


def write():
    FOLDER.mkdir(parents=True, exist_ok=True)
    index, blob = [], b""
    for name, rate, x, y, z in cases():
        index.append({"name": name, "rate_hz": rate, "samples": len(x), "grid_samples": len(z)})
        blob += x.astype("<f4").tobytes() + y.astype("<f8").tobytes() + z.astype("<f8").tobytes()
    head = {"scipy": scipy.__version__, "cutoff_hz": CUTOFF_HZ, "order": ORDER, "cases": index}
    (FOLDER / "goldens.json").write_text(json.dumps(head, indent=1) + "\n")
    (FOLDER / "goldens.bin").write_bytes(blob)


def check():
    head = json.loads((FOLDER / "goldens.json").read_text())
    blob = (FOLDER / "goldens.bin").read_bytes()
    at = 0

    def take(kind, count):
        nonlocal at
        values = np.frombuffer(blob, kind, count, at)
        at += values.nbytes
        return values

    worst = 0.0
    for case in head["cases"]:
        rate = case["rate_hz"]
        x = take("<f4", case["samples"])
        y = take("<f8", case["samples"])
        z = take("<f8", case["grid_samples"])
        scale = max(float(np.std(x)), 1.0)
        again = filtered(x, rate)
        worst = max(worst, np.abs(again - y).max() / scale)
        worst = max(worst, np.abs(resampled(again, rate) - z).max() / scale)
    if at != len(blob) or worst > 1e-9:
        sys.exit(f"{FOLDER}: goldens differ from scipy {scipy.__version__} by {worst:.1e} std")
    print(f"{len(head['cases'])} cases agree with scipy {scipy.__version__} to {worst:.1e} std")


if __name__ == "__main__":
    write() if "--write" in sys.argv[1:] else check()
