"""Losses, gradients and updates as PyTorch computes them, for the trainer's tests.

    pretrain_goldens.py           checks tests/data/pretrain against the installed torch
    pretrain_goldens.py --write   writes it

contrastive.json: embeddings [M, N, E], which are present, the temperature; for both objectives
the loss, its gradients, and how many windows are found. optimizers.json: parameters after each of
some steps on given gradients.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from torch.nn import functional

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "pretrain"
TOLERANCE = 1e-6


def both_directions(left, right, temperature):
    """Cross-entropy of each window on the left with those on the right, and the other way."""
    logits = left @ right.T * torch.exp(temperature)
    labels = torch.arange(len(logits))
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    loss = loss + functional.cross_entropy(logits.T, labels, reduction="sum")
    found = [(logits.argmax(axis) == labels).sum().item() for axis in (1, 0)]
    return loss, 2 * len(logits), found + [len(logits)]


def comparisons(objective, embeddings, present):
    """Left and right side of each comparison, only of windows that have both."""
    unit = functional.normalize(embeddings, dim=2)
    modalities = range(len(unit))
    if objective == "pairwise":
        for i in modalities:
            for j in range(i + 1, len(unit)):
                rows = present[i] & present[j]
                yield unit[i][rows], unit[j][rows]
        return
    for i in modalities:
        others = [j for j in modalities if j != i]
        rows = [n for n in range(unit.shape[1]) if present[i, n] and present[others, n].any()]
        mean = [torch.stack([unit[j, n] for j in others if present[j, n]]).mean(0) for n in rows]
        yield unit[i][rows], torch.stack(mean)


def contrastive():
    rng = np.random.default_rng(5)
    modalities, windows, embed_dim = 4, 7, 6
    shared = rng.normal(size=(1, windows, embed_dim))
    embeddings = np.round(shared + 1.2 * rng.normal(size=(modalities, windows, embed_dim)), 3)
    missing = np.ones((modalities, windows), bool)
    # One window has a single modality, so nothing to be compared with.
    missing[1, 2] = missing[3, 2] = missing[0, 5] = missing[2, 4] = False
    missing[1:, 6] = False
    cases = []
    for objective in ["leave_one_out", "pairwise"]:
        for present in [np.ones_like(missing), missing]:
            x = torch.tensor(embeddings, dtype=torch.float64, requires_grad=True)
            temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
            sides = comparisons(objective, x, torch.tensor(present))
            parts = [both_directions(left, right, temperature) for left, right in sides]
            # With all present this is the reference's sum / (2 M) / N, or / pairs / N.
            loss = sum(p[0] for p in parts) / sum(p[1] for p in parts)
            loss.backward()
            cases.append({
                "objective": objective,
                "present": present.astype(int).tolist(),
                "loss": loss.item(),
                "embeddings_grad": x.grad.tolist(),
                "temperature_grad": temperature.grad.item(),
                "found": [p[2] for p in parts],
            })
    return {"embeddings": embeddings.tolist(), "temperature": 0.7, "cases": cases}


def optimizers():
    rng = np.random.default_rng(6)
    start = {"matrix": np.round(rng.normal(size=(3, 2)), 3), "vector": np.round(rng.normal(size=4), 3)}
    steps, per_pass = 6, 2
    grads = [{k: np.round(rng.normal(size=v.shape), 3) for k, v in start.items()} for _ in range(steps)]
    cases = []
    for kind, weight_decay, clip_norm, schedule in [
        ("sgd", 0.0, 0.0, "constant"),
        ("sgd", 0.1, 0.0, "step"),
        ("adamw", 0.1, 0.0, "constant"),
        ("adamw", 0.1, 1.5, "cosine"),
    ]:
        params = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in start.items()}
        if kind == "sgd":
            optimizer = torch.optim.SGD(params.values(), lr=0.05, momentum=0.9, weight_decay=weight_decay)
        else:
            groups = [{"params": [params["matrix"]], "weight_decay": weight_decay},
                      {"params": [params["vector"]], "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=0.05)
        scheduler = {
            "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
            "step": lambda: torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5),
            "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.005),
        }[schedule]()
        after, rates = [], []
        for step, grad in enumerate(grads):
            for name, value in grad.items():
                params[name].grad = torch.tensor(value, dtype=torch.float64)
            if clip_norm:
                torch.nn.utils.clip_grad_norm_(params.values(), clip_norm)
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            # The reference steps its StepLR once a pass.
            if schedule != "step" or (step + 1) % per_pass == 0:
                scheduler.step()
            after.append({k: v.tolist() for k, v in params.items()})
        cases.append({"kind": kind, "weight_decay": weight_decay, "clip_norm": clip_norm,
                      "schedule": schedule, "rates": rates, "after": after})
    return {
        "start": {k: v.tolist() for k, v in start.items()},
        "grads": [{k: v.tolist() for k, v in g.items()} for g in grads],
        "learning_rate": 0.05, "per_pass": per_pass, "cases": cases,
    }


def numbers(value):
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in numbers(value[key])]
    if isinstance(value, list):
        return [x for item in value for x in numbers(item)]
    return [value] if isinstance(value, (int, float)) else []


def main(write):
    for name, golden in [("contrastive.json", contrastive()), ("optimizers.json", optimizers())]:
        path = FOLDER / name
        if write:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(golden) + "\n")
            continue
        worst = np.abs(np.subtract(numbers(golden), numbers(json.loads(path.read_text())))).max()
        if not worst < TOLERANCE:
            sys.exit(f"{path}: differs from torch {torch.__version__} by {worst:.1e}")
        print(f"{name} agrees with torch {torch.__version__} to {worst:.1e}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main(write=False)
        case ["--write"]:
            main(write=True)
        case _:
            sys.exit(__doc__)
