"""Opens embeddings.h5 of an output folder with h5py (the HDF5 library in C).

    embeddings.py OUT...          shapes, types, attributes of every data set, and the row counts
                                  against hypnogram.csv
    embeddings.py --opens OUT...  only reads every value: for files of a run that was killed
"""

import csv
import pathlib
import sys

import h5py
import numpy as np

NAMES = ["BAS", "RESP", "EKG", "EMG"]
FAILURES = []


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        FAILURES.append(what)


def read(path):
    """Every value of the file, so that a chunk that is not there is noticed."""
    with h5py.File(path, "r") as file:
        tokens = {n: file[n][:] for n in file if n != "5min"}
        windows = {n: file["5min"][n][:] for n in file["5min"]}
        types = {file[n].dtype for n in tokens} | {file["5min"][n].dtype for n in windows}
    return tokens, windows, types


def check_out(out):
    tokens, windows, types = read(out / "embeddings.h5")
    check(f"{out}: data sets are named as the modalities", set(tokens) <= set(NAMES))
    check("5min holds the same modalities", set(tokens) == set(windows))
    check("float32 throughout", types <= {np.dtype("<f4")})
    shapes = {v.shape for v in tokens.values()}
    window_shapes = {v.shape for v in windows.values()}
    check(f"one shape of tokens {shapes} and of windows {window_shapes}",
          len(shapes) <= 1 and len(window_shapes) <= 1)
    for (patches, dim), (count, window_dim) in zip(shapes, window_shapes):
        check("60 patches a window, E the same", dim == window_dim and count == -(-patches // 60))
        with open(out / "hypnogram.csv", newline="") as file:
            epochs = sum(1 for _ in csv.DictReader(file))
        check("six patches an epoch", epochs == -(-patches // 6))
    for name, values in tokens.items():
        nan = np.isnan(values)
        check(f"{name}: a row is NaN or finite as a whole, and some are finite",
              bool((nan.all(axis=1) == nan.any(axis=1)).all() and not nan.all()))


def main(arguments):
    if arguments[:1] == ["--opens"]:
        for out in arguments[1:]:
            read(pathlib.Path(out) / "embeddings.h5")
    elif arguments:
        for out in arguments:
            check_out(pathlib.Path(out))
    else:
        print(__doc__)
        return 2
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
