#!/usr/bin/env python3
"""Runs one recording through the PyTorch reference, all steps in one process.

usage: reference_night.py REFERENCE CHECKPOINTS RECORDING.edf|STORE.hdf5 [cuda]

With a preprocessed store (`sfm-train preprocess` or the reference's) instead of an EDF file there
is no preprocessing; `cuda` runs the networks on a GPU.

REFERENCE is a checkout of zou-group/sleepfm-clinical, CHECKPOINTS a folder with model_base,
model_sleep_staging, model_diagnosis and about.json (the channels of each modality). Needs torch,
einops, mne, pyedflib, h5py, pandas, scipy, matplotlib, tqdm and loguru. Prints the seconds of each step;
night.py runs it as a whole process.
"""

import collections
import json
import os
import sys
import tempfile
import time

WINDOW_PATCHES = 60
MODALITIES = ["BAS", "RESP", "EKG", "EMG"]


def main() -> None:
    reference, checkpoints, recording = sys.argv[1:4]
    device = sys.argv[4] if len(sys.argv) > 4 else "cpu"
    begin = time.perf_counter()
    sys.path[:0] = [reference, os.path.join(reference, "sleepfm")]
    import h5py
    import numpy as np
    import torch
    from loguru import logger

    logger.remove()
    from models.models import (
        DiagnosisFinetuneFullLSTMCOXPHWithDemo,
        SetTransformer,
        SleepEventLSTMClassifier,
    )

    if not recording.endswith(".hdf5"):
        from preprocessing.preprocessing import EDFToHDF5Converter

    step("imports", begin)
    torch.set_grad_enabled(False)
    torch.set_default_device(device)

    begin = time.perf_counter()
    store = recording
    if not recording.endswith(".hdf5"):
        folder = tempfile.mkdtemp()
        store = os.path.join(folder, "psg.hdf5")
        EDFToHDF5Converter(folder, folder, resample_rate=128).convert(recording, store)
    step("preprocessing", begin)

    begin = time.perf_counter()
    config = json.load(open(os.path.join(checkpoints, "model_base", "config.json")))
    base = SetTransformer(
        config["in_channels"], config["patch_size"], config["embed_dim"], config["num_heads"],
        config["num_layers"], pooling_head=config["pooling_head"], dropout=0.0,
    )
    load(base, os.path.join(checkpoints, "model_base", "best.pt"))
    channels = json.load(open(os.path.join(checkpoints, "about.json")))["modalities"]
    samples = WINDOW_PATCHES * config["patch_size"]
    embeddings = []
    with h5py.File(store, "r") as file:
        windows = len(file[channels["BAS"][0]]) // samples
        for modality in MODALITIES:
            signals = np.stack([file[name][: windows * samples] for name in channels[modality]])
            signals = signals.reshape(len(signals), windows, samples).transpose(1, 0, 2)
            tokens = [
                base(
                    torch.from_numpy(batch.astype(np.float32)).to(device),
                    torch.zeros(len(batch), batch.shape[1], dtype=torch.bool),
                )[1]
                for batch in np.array_split(signals, max(1, windows // 16))
            ]
            embeddings.append(torch.cat(tokens).reshape(-1, config["embed_dim"]))
    x = torch.stack(embeddings).unsqueeze(0)
    step("embeddings", begin)

    begin = time.perf_counter()
    head = head_of(SleepEventLSTMClassifier, checkpoints, "model_sleep_staging")
    head(x, torch.zeros(x.shape[:3], dtype=torch.bool))
    step("staging", begin)

    begin = time.perf_counter()
    head = head_of(DiagnosisFinetuneFullLSTMCOXPHWithDemo, checkpoints, "model_diagnosis")
    x = x[:, :, :6480]
    head(x, torch.zeros(x.shape[:3], dtype=torch.bool), torch.tensor([[0.6, 1.0]]))
    step("risk", begin)


def head_of(kind, checkpoints: str, name: str):
    folder = os.path.join(checkpoints, name)
    params = dict(json.load(open(os.path.join(folder, "config.json")))["model_params"])
    head = kind(**params)
    load(head, os.path.join(folder, "best.pth"))
    return head


def load(module, path: str) -> None:
    import torch

    state = torch.load(path, map_location=torch.get_default_device(), weights_only=False)
    state = state.get("state_dict", state)
    plain = collections.OrderedDict((k.removeprefix("module."), v) for k, v in state.items())
    module.load_state_dict(plain)
    module.eval()


def step(name: str, begin: float) -> None:
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    print(f"{name:<14} {time.perf_counter() - begin:7.2f} s", flush=True)


if __name__ == "__main__":
    main()
