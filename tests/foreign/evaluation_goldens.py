"""Golden figures of evaluation, from scikit-learn, lifelines and scikit-survival.

    evaluation_goldens.py           checks tests/data/evaluate/figures.json against them
    evaluation_goldens.py --write   writes it

Needs scikit-learn, lifelines and scikit-survival.
"""

import json
import pathlib
import sys

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)
from sksurv.metrics import cumulative_dynamic_auc
from sksurv.util import Surv

PATH = pathlib.Path(__file__).resolve().parent.parent / "data" / "evaluate" / "figures.json"


def classification(rng, classes, rows, right):
    truth = rng.choice(classes, size=rows, p=rng.dirichlet(np.ones(classes) * 2))
    guess = np.where(rng.random(rows) < right, truth, rng.integers(classes, size=rows))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, guess, labels=range(classes), zero_division=0
    )
    return {
        "classes": classes,
        "truth": truth.tolist(),
        "predicted": guess.tolist(),
        "confusion": confusion_matrix(truth, guess, labels=range(classes)).tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
        "macro_f1": f1_score(truth, guess, average="macro", zero_division=0),
        "accuracy": accuracy_score(truth, guess),
        "kappa": cohen_kappa_score(truth, guess),
    }


def auroc(rng, rows, decimals):
    score = np.round(rng.normal(size=rows), decimals)
    positive = rng.random(rows) < 1 / (1 + np.exp(-score))
    area = roc_auc_score(positive, score)
    return {"score": score.tolist(), "positive": positive.tolist(), "auroc": area}


def survival(rng, rows, step):
    hazard = rng.normal(size=rows)
    # Two equal hazards in ten, and times on a grid that float32 holds exactly.
    hazard[: rows // 5] = np.round(hazard[: rows // 5])
    time = 8 * rng.exponential(size=rows) / np.exp(0.8 * hazard)
    censored = rng.uniform(1, 14, size=rows)
    event = time < censored
    time = np.maximum(np.round(np.minimum(time, censored) / step) * step, step)
    outcome = Surv.from_arrays(event, time)
    horizons = [h for h in (2.0, 5.0) if time.min() < h < time.max()]
    # scikit-survival orders equal hazards by chance of position; distinct ones only.
    distinct = hazard + 1e-6 * np.arange(rows)
    areas = [float(cumulative_dynamic_auc(outcome, outcome, distinct, h)[0][0]) for h in horizons]
    frame = pd.DataFrame({"hazard": hazard, "time": time, "event": event})
    slope = CoxPHFitter().fit(frame, "time", "event", fit_options={"precision": 1e-12}).params_
    return {
        "hazard": hazard.tolist(),
        "distinct": distinct.tolist(),
        "time": time.tolist(),
        "event": event.tolist(),
        "c_index": concordance_index(time, -hazard, event),
        "horizons": horizons,
        "auroc": areas,
        "slope": float(slope["hazard"]),
    }


def make():
    rng = np.random.default_rng(5)
    return {
        "classification": [
            classification(rng, 5, 400, 0.7),
            classification(rng, 4, 30, 0.3),
            classification(rng, 2, 50, 0.8),
        ],
        "auroc": [auroc(rng, 60, 6), auroc(rng, 60, 0)],
        "survival": [survival(rng, 50, 0.25), survival(rng, 80, 1.0)],
    }


def agree(kept, new, place):
    if isinstance(new, dict):
        assert kept.keys() == new.keys(), place
        for key in new:
            agree(kept[key], new[key], f"{place}.{key}")
    elif isinstance(new, list):
        assert len(kept) == len(new), place
        for index, (a, b) in enumerate(zip(kept, new)):
            agree(a, b, f"{place}[{index}]")
    else:
        assert abs(kept - new) < 1e-7, f"{place}: {kept} {new}"


def main():
    made = json.loads(json.dumps(make()))
    if "--write" in sys.argv:
        PATH.parent.mkdir(parents=True, exist_ok=True)
        PATH.write_text(json.dumps(made) + "\n")
        return
    agree(json.loads(PATH.read_text()), made, "figures")
    print("figures.json agrees")


if __name__ == "__main__":
    main()
