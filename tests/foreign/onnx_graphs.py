"""Checks a bundle's graphs with ONNX's own checker and runs them in ONNX Runtime as the
runtime would, against what the PyTorch reference computed.

usage: onnx_graphs.py BUNDLE.sfm PARITY_DIR     (needs numpy, h5py, onnx, onnxruntime)
"""

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-4
QUERY_BLOCK = 50  # rows of the staging head's attention at once: any block size is exact


class Bundle:
    def __init__(self, path):
        self.zip = zipfile.ZipFile(path)
        self.manifest = json.loads(self.zip.read("manifest.json"))
        self.sessions = {}

    def check_files(self):
        names = set(self.zip.namelist()) - {"manifest.json"}
        assert names == set(self.manifest["files"]), "the manifest lists other files"
        for name, entry in self.manifest["files"].items():
            data = self.zip.read(name)
            assert len(data) == entry["bytes"], name
            assert hashlib.sha256(data).hexdigest() == entry["sha256"], name
            if name.endswith(".onnx"):
                model = onnx.load_from_string(data)
                onnx.checker.check_model(model, full_check=True)
        print(f"{len(names)} files intact, every graph passes onnx.checker")

    def run(self, graph, **inputs):
        if graph not in self.sessions:
            data = self.zip.read(f"{graph}.onnx")
            self.sessions[graph] = onnxruntime.InferenceSession(
                data, providers=["CPUExecutionProvider"]
            )
        session = self.sessions[graph]
        assert {i.name for i in session.get_inputs()} == set(inputs), graph
        return session.run(None, inputs)


def ones(*shape):
    return np.ones(shape, np.float32)


def embed(bundle, channels):
    """Channels [C, samples] of one modality to tokens in context and window embeddings."""
    patch = bundle.manifest["preprocessing"]["patch_samples"]
    window = bundle.manifest["base"]["window_patches"]
    patches = channels.shape[1] // (patch * window) * window
    rows = channels[:, : patches * patch].reshape(-1, patch)
    (tokens,) = bundle.run("tokenizer", patches=rows)
    tokens = tokens.reshape(len(channels), patches, -1).transpose(1, 0, 2)
    if len(channels) == 1 and bundle.manifest["base"]["single_channel"] == "skip":
        pooled = tokens[:, 0]
    else:
        (pooled,) = bundle.run("pool", tokens=tokens, present=ones(*tokens.shape[:2]))
    windows = pooled.reshape(-1, window, pooled.shape[1])
    embeddings, window_embeddings = bundle.run(
        "encoder", tokens=windows, present=ones(*windows.shape[:2])
    )
    return embeddings.reshape(patches, -1), window_embeddings


def stage(bundle, tokens, present):
    position = np.arange(len(tokens), dtype=np.int64)
    (x,) = bundle.run("staging.pool", tokens=tokens, present=present, position=position)
    for layer in range(bundle.manifest["staging"]["layers"]):
        name = f"staging.layer{layer}"
        key, value = bundle.run(f"{name}.key_value", x=x)
        blocks = [
            bundle.run(
                f"{name}.attend",
                x=x[start : start + QUERY_BLOCK],
                key=key,
                value=value,
                present=ones(len(x)),
            )[0]
            for start in range(0, len(x), QUERY_BLOCK)
        ]
        x = np.concatenate(blocks)
    (logits,) = bundle.run("staging.rnn", x=x)
    return logits


def hazards(bundle, tokens, present, age, male):
    (x,) = bundle.run("risk.pool", tokens=tokens, present=present)
    low, high = bundle.manifest["risk"]["age_range"]
    demographics = np.array([[(age - low) / (high - low), male]], np.float32)
    _, log_hazard = bundle.run("risk.rnn", x=x, demographics=demographics)
    return log_hazard[0]


def main(bundle_path, parity):
    bundle = Bundle(bundle_path)
    bundle.check_files()
    parity = Path(parity)
    modalities = json.loads((parity / "about.json").read_text())["modalities"]
    expected = np.load(parity / "expected.npz")
    with h5py.File(parity / "psg.hdf5") as file:
        signals = {name: file[name][:].astype(np.float32) for name in file}

    embedded = [
        embed(bundle, np.stack([signals[name] for name in modalities[modality]]))
        for modality in bundle.manifest["base"]["modalities"]
    ]
    tokens = np.stack([tokens for tokens, _ in embedded], axis=1)
    present = ones(*tokens.shape[:2])
    no_emg = present.copy()
    no_emg[:, bundle.manifest["base"]["modalities"].index("EMG")] = 0

    computed = {
        "embeddings_5s": tokens.transpose(1, 0, 2),
        "embeddings_5min": np.stack([windows for _, windows in embedded]),
        "stage_logits": stage(bundle, tokens, present),
        "stage_logits_no_emg": stage(bundle, tokens, no_emg),
        "hazards_age60_male": hazards(bundle, tokens, present, 60, 1),
        "hazards_age35_female": hazards(bundle, tokens, present, 35, 0),
        "hazards_no_emg_age60_male": hazards(bundle, tokens, no_emg, 60, 1),
    }
    assert set(computed) == set(expected.files)
    failed = False
    for name, values in computed.items():
        assert values.shape == expected[name].shape, (name, values.shape, expected[name].shape)
        difference = float(np.abs(values - expected[name]).max())
        # Written so that NaN fails as well.
        bad = not difference <= TOLERANCE
        failed |= bad
        print(f"{name:28} largest difference {difference:.1e}{'  FAILED' if bad else ''}")
    for graph, shape in (("pool", (3, 2)), ("encoder", (1, 5))):
        outputs = bundle.run(
            graph,
            tokens=np.zeros((*shape, tokens.shape[2]), np.float32),
            present=np.zeros(shape, np.float32),
        )
        assert all(np.isfinite(output).all() for output in outputs), f"{graph}: nothing present"
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
