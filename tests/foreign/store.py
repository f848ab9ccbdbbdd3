"""Compares a file of the store with the reference's preprocessing of the same EDF, done here by
pyedflib, scipy and numpy, and checks its layout with h5py.

    store.py EDF STORE_FILE    e.g. tests/data/mini/psg.edf and what sfm-train preprocess made of it

Only for EDF without gaps, as the reference reads it. Each channel goes at its own rate.
"""

import sys

import h5py
import numpy as np
import pyedflib
from scipy.signal import butter, filtfilt

RATE_HZ = 128
CHUNK = 5 * 60 * RATE_HZ
FAILURES = []


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        FAILURES.append(what)


def expected(signal, rate_hz):
    """Low-pass of order 4 forward and backward, linear interpolation, z-score: float64."""
    if rate_hz > RATE_HZ:
        b, a = butter(4, min(RATE_HZ / 2, rate_hz / 2) / (rate_hz / 2), btype="low")
        signal = filtfilt(b, a, signal)
    seconds = len(signal) / rate_hz
    wanted = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    signal = np.interp(wanted, np.arange(len(signal)) / rate_hz, signal)
    std = signal.std() if signal.std() > 0 else 1
    # Signals are float32 before the z-score: what that costs beside a large offset.
    rounding = 2.0**-23 * np.abs(signal).max() / std
    return (signal - signal.mean()) / std, rounding


def main(edf_path, store_path):
    reader = pyedflib.EdfReader(edf_path)
    taken = {}
    with h5py.File(store_path, "r") as store:
        check("no data set lies in a group", all(isinstance(store[n], h5py.Dataset) for n in store))
        for index, label in enumerate(reader.getSignalLabels()):
            name = label if label not in taken else f"{label}_{taken[label]}"
            taken[label] = taken.get(label, 0) + 1
            want, rounding = expected(reader.readSignal(index), reader.getSampleFrequency(index))
            if name not in store:
                print(f"      {name}: not in the store")
                continue
            data = store[name]
            check(f"{name}: float16 of 1 dimension", data.dtype == np.float16 and data.ndim == 1)
            check(f"{name}: chunks of 5 min", data.chunks == (min(CHUNK, len(data)),))
            check(f"{name}: gzip", data.compression == "gzip")
            check(f"{name}: its label and modality are beside it",
                  data.attrs["label"] == label
                  and data.attrs["modality"] in {"BAS", "RESP", "EKG", "EMG", "none"})
            check(f"{name}: {len(data)} samples", len(data) == len(want))
            found = data[:].astype(np.float64)
            # Half a unit in the last place of float16, and what float32 had lost before.
            unit = np.spacing(np.abs(want).astype(np.float16)).astype(np.float64)
            largest = np.abs(found - want).max()
            check(f"{name}: float16's rounding, at most {largest:.1e}",
                  np.all(np.abs(found - want) <= 0.5 * unit * (1 + 1e-3) + rounding))
        check("every data set is a signal's",
              set(store) <= {n for l, c in taken.items() for n in [l] + [f"{l}_{i}" for i in range(1, c)]})
    return 1 if FAILURES else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
