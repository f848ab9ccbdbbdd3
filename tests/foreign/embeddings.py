"""Opens embeddings.h5 of an output folder with h5py (the HDF5 library in C).

    embeddings.py OUT...          shapes and types of every data set, the row counts against
                                  hypnogram.csv; every figure if the night is the made-up one of
                                  tests/sinks/synthetic.rs
    embeddings.py --opens OUT...  only reads every value: for files of a run that was killed
    embeddings.py --reference DIR OUT...
                                  the reference's own data sets for fine-tuning and their collate
                                  functions, from a checkout of it, give every value of the file; of
                                  a run with tests/data/mini/mini.sfm, --age 60 and --sex m, its
                                  networks then give hypnogram.csv and risk.csv. Wants PyTorch,
                                  einops, loguru, pandas, PyYAML and tqdm
"""

import csv
import importlib
import json
import pathlib
import shutil
import sys
import tempfile

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
    if json.loads((out / "night.json").read_text())["provenance"]["bundle"] == "synthetic":
        check_synthetic(tokens, windows)


def check_synthetic(tokens, windows):
    """The figures that the final pass of tests/sinks/synthetic.rs has at each place."""
    check("synthetic: BAS, EMG and RESP, no EKG", set(tokens) == {"BAS", "EMG", "RESP"})
    for name, values in tokens.items():
        patch, column = np.indices(values.shape, dtype=np.float32)
        window, modality = patch // 60, np.float32(NAMES.index(name))
        absent = {"BAS": window < 0, "RESP": window < 3, "EMG": (window == 2) | (patch == 7)}
        want = -(1 + patch + modality / 4 + column / 1024)
        want[absent[name]] = np.nan
        check(f"synthetic: {name} figure by figure", np.array_equal(values, want, equal_nan=True))
        window, column = np.indices(windows[name].shape, dtype=np.float32)
        absent = {"BAS": window < 0, "RESP": window < 3, "EMG": window == 2}
        want = -(np.float32(1e5) + window + modality / 4 + column / 128)
        want[absent[name]] = np.nan
        check(f"synthetic: 5min/{name} figure by figure",
              np.array_equal(windows[name], want, equal_nan=True))


# The reference's loaders

def reference(checkout):
    """Its modules of data sets and networks, or None and a line on what is missing."""
    folder = pathlib.Path(checkout) / "sleepfm"
    if not checkout or not (folder / "models" / "dataset.py").is_file():
        print("skipped: no checkout of the reference (github.com/zou-group/sleepfm-clinical)")
        return None
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("models.dataset"), importlib.import_module("models.models")
    except ImportError as error:
        print(f"skipped: the reference's code needs {error.name}")
        return None


def lay_out(folder, out, stages):
    """The night as the reference's pipeline leaves it: one file a recording, tables beside it."""
    recording = folder / "model" / "ward" / "night.hdf5"
    recording.parent.mkdir(parents=True)
    shutil.copy(out / "embeddings.h5", recording)
    (folder / "split.json").write_text(json.dumps({"test": [str(recording)]}))
    (folder / "ward").mkdir()
    rows = [f"{5 * i},{5 * i + 5},{s},{s}" for i, s in enumerate(stages)]
    (folder / "ward" / "night.csv").write_text("\n".join(["Start,Stop,StageName,StageNumber", *rows, ""]))
    (folder / "is_event.csv").write_text("Study ID,0,1\nnight,0,1\n")
    (folder / "time_to_event.csv").write_text("Study ID,0,1\nnight,3.5,1.25\n")
    (folder / "demo.csv").write_text("Study ID,age,sex\nnight,0.6,1\n")
    return {
        "max_channels": 4, "context": -1, "channel_like": NAMES, "modality_types": NAMES, "dataset": "ward",
        "data_path": str(folder), "model_path": str(folder / "model"), "split_path": str(folder / "split.json"),
        "labels_path": str(folder), "demo_labels_path": str(folder / "demo.csv"), "max_files": None,
        "model_params": {"max_seq_length": 20000},
    }


def batch(data_set, collate):
    from torch.utils.data import DataLoader

    (found,) = DataLoader(data_set, batch_size=4, collate_fn=collate)
    return [part.numpy() if hasattr(part, "numpy") else part for part in found]


def check_loaded(what, x, mask, tokens):
    """Modalities come in alphabetical order or a random one, then channels of padding."""
    shape = next(iter(tokens.values())).shape
    check(f"{what}: one night, four channels of {shape}, float32", x.shape == (1, 4, *shape) and x.dtype == np.float32)
    left = dict(tokens)
    for channel in x[0][:len(tokens)]:
        left.pop(next((n for n in left if np.array_equal(left[n], channel, equal_nan=True)), None), None)
    check(f"{what}: every value is the file's", not left)
    masked = [bool(row.all()) for row in mask[0]]
    check(f"{what}: no more than the absent modalities is masked",
          masked == [i >= len(tokens) for i in range(4)] and not mask[0][:len(tokens)].any())


def check_reference(modules, out):
    datasets, networks = modules
    tokens, _, _ = read(out / "embeddings.h5")
    with open(out / "hypnogram.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    numbers = [["W", "N1", "N2", "N3", "R", "?"].index(row["stage"]) for row in epochs]
    count = len(next(iter(tokens.values())))
    stages = [-1 if n == 5 else n for n in np.repeat(numbers, 6)[:count]]
    with tempfile.TemporaryDirectory() as folder:
        config = lay_out(pathlib.Path(folder), out, stages)
        data = datasets.SleepEventClassificationDataset(config, {}, split="test")
        x, y, mask, _ = batch(data, datasets.sleep_event_finetune_full_collate_fn)
        check_loaded(f"{out}: staging", x, mask, tokens)
        check("staging: stages lie beside their tokens", np.array_equal(y[0], np.maximum(stages, 0)))
        config["model_params"]["max_seq_length"] = None
        data = datasets.DiagnosisFinetuneFullCOXPHDataset(config, {}, split="test")
        plain, _, _, plain_mask, _ = batch(data, datasets.diagnosis_finetune_full_coxph_collate_fn)
        check_loaded("diagnosis", plain, plain_mask, tokens)
        data = datasets.DiagnosisFinetuneFullCOXPHWithDemoDataset(config, {}, split="test")
        night = batch(data, datasets.diagnosis_finetune_full_coxph_with_demo_collate_fn)
        check_loaded("diagnosis with demographics", night[0], night[4], tokens)
    provenance = json.loads((out / "night.json").read_text())["provenance"]
    if provenance["bundle"] == "mini" and set(tokens) == set(NAMES):
        check_networks(networks, out, epochs, (x, mask), (night[0], night[4]))


def network(networks, name):
    import torch

    folder = pathlib.Path("tests/data/mini") / name
    config = json.loads((folder / "config.json").read_text())
    model = getattr(networks, config["model"])(**config["model_params"])
    weights = torch.load(folder / "best.pth", map_location="cpu")
    model.load_state_dict({key.removeprefix("module."): value for key, value in weights.items()})
    return model.eval()


def check_networks(networks, out, epochs, staging, risk):
    import torch

    with torch.no_grad():
        logits, _ = network(networks, "model_sleep_staging")(*map(torch.from_numpy, staging))
        x, mask = map(torch.from_numpy, risk)
        hazards = network(networks, "model_diagnosis")(x, mask, torch.tensor([[0.6, 1.0]]))
    found = torch.softmax(logits[0], 1).reshape(len(epochs), 6, 5).mean(1).numpy()
    want = np.array([[float(row[f"p_{s}"]) for s in ("wake", "n1", "n2", "n3", "rem")] for row in epochs])
    apart = np.abs(found - want).max()
    check(f"the reference's staging network gives hypnogram.csv, within {apart:.1e}", apart < 1e-4)
    with open(out / "risk.csv", newline="") as file:
        want = np.array([float(row["log_hazard"]) for row in csv.DictReader(file)])
    apart = np.abs(hazards[0].numpy() - want).max()
    check(f"the reference's network of hazards gives risk.csv, within {apart:.1e}", apart < 1e-4)


def main(arguments):
    if arguments[:1] == ["--opens"]:
        for out in arguments[1:]:
            read(pathlib.Path(out) / "embeddings.h5")
    elif arguments[:1] == ["--reference"] and len(arguments) > 2:
        if (modules := reference(arguments[1])) is not None:
            for out in arguments[2:]:
                check_reference(modules, pathlib.Path(out))
    elif arguments:
        for out in arguments:
            check_out(pathlib.Path(out))
    else:
        print(__doc__)
        return 2
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
