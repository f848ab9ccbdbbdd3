"""A small tokenizer graph with random weights and what ONNX Runtime computes from it.

    tokenizer_golden.py           checks tests/data/tokenizer against the installed onnxruntime
    tokenizer_golden.py --write   writes it
    tokenizer_golden.py --for GRAPH.onnx FOLDER   the same for another graph, into FOLDER

tokenizer.onnx has the structure and the initializer names that a bundle's tokenizer has;
patches.f32 [N, 640] and tokens.f32 [N, E] are little-endian float32.
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "tokenizer"
CHANNELS = [1, 4, 8, 16, 32, 64, 128]
EMBED_DIM = 32
PATCH_SAMPLES = 640
PATCHES = 19
TOLERANCE = 1e-5


def graph(rng):
    nodes, tensors = [], []

    def tensor(name, values):
        # Few bits: the file compresses well in the repository, the arithmetic is the same.
        values = np.round(np.asarray(values) * 256) / 256
        tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    nodes.append(helper.make_node("Unsqueeze", ["patches", "axis"], ["x0"], name="channel"))
    tensors.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    length = PATCH_SAMPLES
    for i, (c_in, c_out) in enumerate(zip(CHANNELS, CHANNELS[1:])):
        length //= 2
        bound = 1.7 / np.sqrt(5 * c_in)
        weight = tensor(f"conv{i}.weight", rng.uniform(-bound, bound, (c_out, c_in, 5)))
        bias = tensor(f"conv{i}.bias", rng.uniform(-bound, bound, c_out))
        nodes.append(
            helper.make_node(
                "Conv", [f"x{i}", weight, bias], [f"c{i}"], name=f"conv{i}",
                kernel_shape=[5], strides=[2], pads=[2, 2],
            )
        )
        nodes.append(helper.make_node("Elu", [f"c{i}"], [f"e{i}"], name=f"elu{i}"))
        # Rows and columns instead of a full random table keep the file small once packed.
        table = lambda center: center + 0.3 * rng.normal(size=(c_out, 1)) + 0.2 * rng.normal(size=(1, length))
        scale, shift = tensor(f"norm{i}.weight", table(1.0)), tensor(f"norm{i}.bias", table(0.0))
        epsilon = {} if i == 0 else {"epsilon": 1e-5 * (i + 1)}
        nodes.append(
            helper.make_node(
                "LayerNormalization", [f"e{i}", scale, shift], [f"x{i + 1}"], name=f"norm{i}",
                axis=1, **epsilon,
            )
        )
    last = len(CHANNELS) - 1
    tensors.append(numpy_helper.from_array(np.array([2], np.int64), "positions"))
    nodes.append(helper.make_node("ReduceMean", [f"x{last}", "positions"], ["mean"], name="mean", keepdims=0))
    weight = tensor("linear.weight", rng.uniform(-0.1, 0.1, (CHANNELS[-1], EMBED_DIM)))
    bias = tensor("linear.bias", rng.uniform(-0.1, 0.1, EMBED_DIM))
    nodes.append(helper.make_node("MatMul", ["mean", weight], ["product"], name="linear"))
    nodes.append(helper.make_node("Add", ["product", bias], ["tokens"], name="add"))
    model = helper.make_model(
        helper.make_graph(
            nodes, "tokenizer",
            [helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["N", PATCH_SAMPLES])],
            [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["N", EMBED_DIM])],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def patches(rng):
    """Noise, a rhythm, spikes, silence, a constant."""
    x = rng.normal(size=(PATCHES, PATCH_SAMPLES))
    x[1] = 2 * np.sin(np.arange(PATCH_SAMPLES) / 5)
    x[2, ::97] += 40
    x[3] = 0
    x[4] = 1.5
    x[5] *= 30
    return x.astype(np.float32)


def run(model, x):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"patches": x})[0]


def write(folder, model):
    folder.mkdir(parents=True, exist_ok=True)
    x = patches(np.random.default_rng(7))
    (folder / "tokenizer.onnx").write_bytes(model)
    (folder / "patches.f32").write_bytes(x.astype("<f4").tobytes())
    (folder / "tokens.f32").write_bytes(run(model, x).astype("<f4").tobytes())


def check():
    model = (FOLDER / "tokenizer.onnx").read_bytes()
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    x = np.fromfile(FOLDER / "patches.f32", "<f4").reshape(-1, PATCH_SAMPLES)
    worst = np.abs(run(model, x) - np.fromfile(FOLDER / "tokens.f32", "<f4").reshape(len(x), -1)).max()
    if not worst < TOLERANCE:
        sys.exit(f"{FOLDER}: tokens differ from onnxruntime {onnxruntime.__version__} by {worst:.1e}")
    print(f"{len(x)} tokens agree with onnxruntime {onnxruntime.__version__} to {worst:.1e}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            check()
        case ["--write"]:
            write(FOLDER, graph(np.random.default_rng(11)))
        case ["--for", source, folder]:
            write(pathlib.Path(folder), pathlib.Path(source).read_bytes())
        case _:
            sys.exit(__doc__)
