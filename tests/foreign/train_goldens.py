"""What PyTorch computes for the trainer's operations: outputs and gradients.

    train_goldens.py           checks tests/data/train against the installed PyTorch
    train_goldens.py --write   writes it

Inputs and weights are sines (`fill`), which the Rust tests compute again, so that the file holds
results only. PyTorch computes in double precision: what differs is the rounding of ours.
"""

import pathlib
import sys

import numpy as np
import torch
from torch import nn

from torch_base import Base, Tokenizer, TransformerLayer

FILE = pathlib.Path(__file__).resolve().parent.parent / "data" / "train" / "expected.npz"
TOLERANCE = 1e-6


def fill(shape, salt, scale=1.0, center=0.0):
    index = np.arange(np.prod(shape), dtype=np.float64)
    values = center + scale * np.sin(12.9898 * index + 0.7 * salt)
    return torch.tensor(values.reshape(shape).astype(np.float32).astype(np.float64))


def parameters(module):
    """In the order of the Rust module's."""
    parameters = list(module.parameters())
    if isinstance(module, nn.LSTM):
        groups = (parameters[i : i + 4] for i in range(0, len(parameters), 4))
        return [p for a, b, c, d in groups for p in (a, c, b, d)]
    return parameters


def fill_parameters(module):
    """Parameter i with salt i; as large as the usual initial values."""
    with torch.no_grad():
        for i, p in enumerate(parameters(module)):
            scale = 0.3 if p.ndim == 1 else 1.7 / np.sqrt(p[0].numel())
            center = 1.0 if norm_weight(module, p) else 0.0
            p.copy_(fill(p.shape, i, scale, center))


def norm_weight(module, parameter):
    norms = (m for m in module.modules() if isinstance(m, (nn.LayerNorm, nn.BatchNorm1d)))
    return any(m.weight is parameter for m in norms)


def backward(outputs):
    """From a loss that weighs every value differently."""
    sum((y * fill(y.shape, 50 + i)).sum() for i, y in enumerate(outputs)).backward()


def lstm():
    module = nn.LSTM(6, 20, num_layers=2, bidirectional=True, batch_first=True)
    fill_parameters(module)
    x = fill((5, 7, 6), 40).requires_grad_()
    y, _ = module(x)
    backward([y])
    yield "output", y
    yield "x", x.grad
    yield from ((str(i), p.grad) for i, p in enumerate(parameters(module)))


def tokenizer(train):
    """The weights' gradients as their products with two patterns."""
    module = Tokenizer(128, 8).train(train)
    fill_parameters(module)
    with torch.no_grad():
        for block in module.blocks:
            norm = block.batch_norm
            norm.running_mean.copy_(fill(norm.running_mean.shape, 30, 0.2))
            norm.running_var.copy_(fill(norm.running_var.shape, 31, 0.5, 1.0))
    x = fill((19, 128), 40).requires_grad_()
    y = module(x)
    yield "output", y
    if train:
        backward([y])
        yield "x", x.grad
        yield "gradients", products(module)
        norms = [block.batch_norm for block in module.blocks]
        yield "running_mean", torch.cat([norm.running_mean for norm in norms])
        yield "running_var", torch.cat([norm.running_var for norm in norms])


def products(module):
    """Of each parameter's gradient with two patterns, and its norm."""
    rows = []
    for p in parameters(module):
        dots = [(p.grad * fill(p.shape, salt)).sum() for salt in (60, 61)]
        rows.append([*dots, p.grad.norm()])
    return torch.tensor(rows)


def transformer(norm_first):
    module = TransformerLayer(16, 4, 32, 0.0, norm_first)
    fill_parameters(module)
    x = fill((3, 5, 16), 40).requires_grad_()
    present = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0]])
    y = module(x, present)
    backward([y])
    yield "output", y
    yield "x", x.grad
    yield from ((str(i), p.grad) for i, p in enumerate(parameters(module)))


def base():
    """The gradients as their products with two patterns."""
    module = Base(16, 4, 1, 32, 0.0, 128, 8)
    fill_parameters(module)
    present = torch.ones(2, 3, 4)
    present[1, 2] = 0
    present[1, :, 3] = 0
    patches = fill((2, 3, 4, 128), 40) * present.unsqueeze(3)
    tokens, windows = module(patches, present)
    tokens = tokens * present.amax(1).unsqueeze(2)
    backward([tokens, windows])
    yield "tokens", tokens
    yield "windows", windows
    yield "gradients", products(module)


def arrays():
    torch.set_default_dtype(torch.float64)
    cases = {
        "lstm": lstm(),
        "tokenizer_train": tokenizer(True),
        "tokenizer_eval": tokenizer(False),
        "pre_norm": transformer(True),
        "post_norm": transformer(False),
        "base": base(),
    }
    for case, values in cases.items():
        for name, value in values:
            yield f"{case}.{name}", value.detach().numpy().astype(np.float32)


def check():
    with np.load(FILE) as stored:
        computed = dict(arrays())
        if set(stored) != set(computed):
            sys.exit(f"{FILE}: other arrays than this script computes")
        worst = max(float(np.abs(stored[k] - v).max() / (1 + np.abs(v).max())) for k, v in computed.items())
    if not worst < TOLERANCE:
        sys.exit(f"{FILE}: differs from PyTorch {torch.__version__} by {worst:.1e}")
    print(f"{len(computed)} arrays agree with PyTorch {torch.__version__} to {worst:.1e}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            check()
        case ["--write"]:
            FILE.parent.mkdir(parents=True, exist_ok=True)
            np.savez(FILE, **dict(arrays()))
        case _:
            sys.exit(__doc__)
