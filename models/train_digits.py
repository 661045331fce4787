"""Trains the digit classifier that ships with gradc, and writes it and its sample pictures.

Only needed to make them anew:

    pip install torch scikit-learn onnx onnxruntime pillow
    python models/train_digits.py

A fifth of the data, drawn by class, is held out; nothing is chosen by it: the number of epochs is fixed, and the
sample pictures are the first held-out one of each digit.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

SEED = 17
EPOCHS = 120
BATCH = 64
FOLDER = Path(__file__).parent


def pictures(counts):
    """8x8 counts of 0 to 16 as 16x16 pictures of 8 bits, scaled up between the centres of pixels."""
    small = torch.tensor(counts, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    large = functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    return (large * 255).round().to(torch.uint8)


def augmented(batch, random):
    """The pictures turned by up to 12 degrees, scaled by up to a tenth and moved by up to one and a half pixels."""
    count = len(batch)
    uniform = lambda bound: (torch.rand(count, generator=random) * 2 - 1) * bound
    angle, scale = uniform(12 * torch.pi / 180), 1 + uniform(0.1)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    move = 1.5 / 8
    rows = [torch.stack([cos, -sin, uniform(move)], 1), torch.stack([sin, cos, uniform(move)], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), batch.shape, align_corners=False)
    return functional.grid_sample(batch, grid, align_corners=False)


def train(network, images, labels, random):
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(images), generator=random).split(BATCH):
            loss = functional.cross_entropy(
                network(augmented(images[rows], random)), labels[rows], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 20 == 19:
            print(f"epoch {epoch + 1}: loss {loss.item():.4f}", flush=True)


def as_onnx(network, description):
    """The network in ONNX's own operators, with names that people can type."""
    names = {"0": "conv1", "3": "conv2", "6": "linear"}
    weights = []
    for key, tensor in network.state_dict().items():
        layer, part = key.split(".")
        weights.append(numpy_helper.from_array(tensor.numpy(), f"{names[layer]}.{part}"))
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["conv1"], name="conv1", **conv),
        helper.make_node("Relu", ["conv1"], ["relu1"], name="relu1"),
        helper.make_node("MaxPool", ["relu1"], ["pool"], name="pool", **pool),
        helper.make_node("Conv", ["pool", "conv2.weight", "conv2.bias"], ["conv2"], name="conv2", **conv),
        helper.make_node("Relu", ["conv2"], ["relu2"], name="relu2"),
        helper.make_node("Flatten", ["relu2"], ["features"], name="features"),
        helper.make_node(
            "Gemm", ["features", "linear.weight", "linear.bias"], ["logits"], name="linear", transB=1
        ),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 16, 16], "gray, 0 black to 1 white")
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10], "one score for each digit")
    graph = helper.make_graph(nodes, "digits", [image], [logits], weights, doc_string=description)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="gradc models/train_digits.py",
        doc_string=description,
    )
    helper.set_model_props(
        model,
        {
            "title": "Handwritten digits, 16x16",
            "license": "CC-BY-4.0",
            "data": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, doi:10.24432/C50P49",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(SEED)
    digits = load_digits()
    split = train_test_split(
        pictures(digits.data), torch.tensor(digits.target), test_size=0.2, random_state=SEED, stratify=digits.target
    )
    train_bytes, held_bytes, train_labels, held_labels = split
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 8 * 8, 10),
    )
    train(network, train_bytes / 255, train_labels, random)

    description = (
        "Recognizes handwritten digits in gray pictures of 16x16 pixels, light on dark. Made to try gradc with; "
        "trained on the Optical Recognition of Handwritten Digits data set (CC BY 4.0)."
    )
    path = FOLDER / "digits.onnx"
    onnx.save(as_onnx(network.eval(), description), path)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    accuracy = lambda data, labels: (
        session.run(None, {"image": (data / 255).numpy()})[0].argmax(1) == labels.numpy()
    ).mean()
    with torch.no_grad():
        ours = session.run(None, {"image": (held_bytes / 255).numpy()})[0]
        assert np.allclose(ours, network(held_bytes / 255).numpy(), rtol=1e-4, atol=1e-4)
    print(f"{path.name}: {path.stat().st_size:,} bytes")
    print(f"trained on {len(train_labels)}: {accuracy(train_bytes, train_labels):.4f} right")
    wrong = int((ours.argmax(1) != held_labels.numpy()).sum())
    print(f"held out {len(held_labels)}: {accuracy(held_bytes, held_labels):.4f} right, {wrong} wrong")

    (FOLDER / "digits").mkdir(exist_ok=True)
    samples = [int((held_labels == digit).nonzero()[0]) for digit in range(10)]
    floats = (held_bytes[samples] / 255).numpy()
    np.savez(FOLDER / "digits" / "samples.npz", image=floats, label=np.arange(10, dtype=np.int64))
    np.save(FOLDER / "digits" / "3.npy", floats[3:4])
    three = torch.from_numpy(floats[3:4]).requires_grad_()
    network(three).max().backward()
    np.save(FOLDER / "digits" / "3.gradient.npy", three.grad.numpy())
    for digit, sample in enumerate(samples):
        Image.fromarray(held_bytes[sample, 0].numpy()).save(FOLDER / "digits" / f"{digit}.png", optimize=True)
        shown = np.exp(ours[sample] - ours[sample].max())
        print(f"digits/{digit}.png: taken for {ours[sample].argmax()} with {shown.max() / shown.sum():.4f}")


if __name__ == "__main__":
    main()
