"""Golden values of Cox's partial likelihood, from PyTorch's automatic differentiation in float64.

    cox_goldens.py           checks tests/data/evaluate/cox.json against the installed PyTorch
    cox_goldens.py --write   writes it

Every risk set is summed on its own, straight from the formulas of Breslow (1974) and Efron (1977):
slow, and nothing like a running sum. Needs torch.
"""

import json
import pathlib
import sys

import torch

PATH = pathlib.Path(__file__).resolve().parent.parent / "data" / "evaluate" / "cox.json"


def negative_log_likelihood(hazard, time, event, ties):
    """Per event."""
    total = hazard.new_zeros(())
    for t in sorted({float(t) for t, e in zip(time, event) if e}):
        tied = hazard[(time == t) & event]
        at_risk = hazard[time >= t]
        for rank in range(len(tied)):
            left = rank / len(tied) if ties == "efron" else 0.0
            # The tied ones' weights, one at least below 1, next to those of all others.
            others = hazard[(time >= t) & ~((time == t) & event)]
            terms = torch.cat([others, tied + torch.log(torch.tensor(1.0 - left).double())])
            assert len(terms) == len(at_risk)
            total = total + torch.logsumexp(terms, 0)
        total = total - tied.sum()
    return total / int(event.sum())


def case(name, rows, scale, decimals, ties, seed, share=0.5):
    torch.manual_seed(seed)
    hazard = (torch.randn(rows, dtype=torch.float64) * scale).requires_grad_()
    # Quarters are exact in float32, which the readers of outcomes use.
    time = torch.round(torch.rand(rows, dtype=torch.float64) * 10 * decimals) / decimals
    event = torch.rand(rows) < share
    event[0] = True
    loss = negative_log_likelihood(hazard, time, event, ties)
    loss.backward()
    return {
        "name": name,
        "ties": ties,
        "hazard": hazard.tolist(),
        "time": time.tolist(),
        "event": event.tolist(),
        "loss": loss.item(),
        "gradient": hazard.grad.tolist(),
    }


def make():
    return [
        case(f"{name}, {ties}", *shape, ties, seed)
        for seed, (name, shape) in enumerate(
            [
                ("few ties", (40, 1.0, 4)),
                ("many ties", (40, 1.0, 1)),
                ("wide hazards", (30, 200.0, 1)),
                ("two", (2, 1.0, 4)),
            ]
        )
        for ties in ("efron", "breslow")
    ]


def main():
    made = make()
    if "--write" in sys.argv:
        PATH.parent.mkdir(parents=True, exist_ok=True)
        PATH.write_text(json.dumps(made, indent=1) + "\n")
        return
    for kept, new in zip(json.loads(PATH.read_text()), made, strict=True):
        assert abs(kept["loss"] - new["loss"]) < 1e-9 * (1 + abs(new["loss"])), new["name"]
        pairs = zip(kept["gradient"], new["gradient"], strict=True)
        assert all(abs(a - b) < 1e-9 for a, b in pairs), new["name"]
    print("cox.json agrees with PyTorch", torch.__version__)


if __name__ == "__main__":
    main()
