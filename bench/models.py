"""The twelve models of the benchmark: networks of the sizes that people have, with reference gradients.

A model becomes a folder:

    model.onnx      the network
    loss.onnx       the network with a loss behind it, an output named `loss`
    inputs.npz      the inputs of loss.onnx
    expected.npz    the output, and the gradient of the loss by every parameter and by what the input gradient is taken of,
                    computed by PyTorch in f64
    about.json      names and sizes, and how far PyTorch's own f32 gradients are from those in f64

Weights are random, from a fixed seed: the speed does not depend on what a network has learned.
"""

import json
import math
import pathlib
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from distances import worst

OPSET = 17


def dense(*sizes, between):
    """Linear layers with a function between two of them."""
    layers = []
    for before, after in zip(sizes, sizes[1:]):
        layers += [nn.Linear(before, after), between()]
    return nn.Sequential(*layers[:-1])


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


def digits():
    """A convolutional network for pictures of 28 by 28."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10),
    )


def field():
    """The solution of a differential equation as a network of two coordinates."""
    wide = 128
    return nn.Sequential(
        nn.Linear(2, wide), nn.Tanh(), nn.Linear(wide, wide), Sine(),
        nn.Linear(wide, wide), nn.Tanh(), nn.Linear(wide, wide), Sine(), nn.Linear(wide, 1),
    )


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(64, 128)
        self.head = nn.Linear(128, 8)

    def forward(self, x):
        states, _ = self.cells(x)
        return self.head(states)


def twice(before, after):
    """Two convolutions, each normalized."""
    def one(before):
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*one(before), *one(after))


class Segmentation(nn.Module):
    """A small U-Net: one way up by a transposed convolution, the other by interpolation."""

    def __init__(self, width=16):
        super().__init__()
        self.down1, self.down2, self.bottom = twice(3, width), twice(width, 2 * width), twice(2 * width, 4 * width)
        self.transposed = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.up2 = twice(4 * width, 2 * width)
        self.narrow = nn.Conv2d(2 * width, width, 1)
        self.up1 = twice(2 * width, width)
        self.mask = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        bottom = self.transposed(self.bottom(F.max_pool2d(coarse, 2)))
        coarse = self.up2(torch.cat((bottom, coarse), 1))
        larger = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.mask(self.up1(torch.cat((self.narrow(larger), fine), 1)))


class Layer(nn.Module):
    """A transformer layer; normalized before its parts (like GPT) or after them (like BERT)."""

    def __init__(self, width, heads, first, causal=False, gelu="none"):
        super().__init__()
        self.heads, self.first, self.causal, self.gelu = heads, first, causal, gelu
        self.queries, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.mixed = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def attend(self, x, mask):
        batch, length, width = x.shape
        split = lambda y: y.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        queries, keys, values = split(self.queries(x)), split(self.keys(x)), split(self.values(x))
        scores = queries @ keys.transpose(2, 3) / math.sqrt(width // self.heads)
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        return self.mixed((weights @ values).transpose(1, 2).reshape(batch, length, width))

    def think(self, x):
        return self.narrow(F.gelu(self.wide(x), approximate=self.gelu))

    def forward(self, x, mask=None):
        if self.first:
            x = x + self.attend(self.norm1(x), mask)
            return x + self.think(self.norm2(x))
        x = self.norm1(x + self.attend(x, mask))
        return self.norm2(x + self.think(x))


class Writer(nn.Module):
    """A small GPT. What it is differentiated by, beside parameters, are the embedded tokens."""

    def __init__(self, words=1000, width=256, layers=4, heads=8, length=128):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(length, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads, True, gelu="tanh") for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.register_buffer("mask", torch.full((length, length), -1e9).triu(1), persistent=False)

    def embed(self, ids):
        return self.words(ids) + self.places

    def rest(self, x):
        for layer in self.layers:
            x = layer(x, self.mask)
        return self.head(self.norm(x))

    def forward(self, ids):
        return self.rest(self.embed(ids))


class Reader(nn.Module):
    """Of the shape of MiniLM-L6: sentences to vectors, the mean over all tokens that are none of padding."""

    def __init__(self, words=30522, width=384, layers=6, heads=12, length=128):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(length, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads, False) for _ in range(layers))

    def embed(self, ids, present):
        return self.norm(self.words(ids) + self.places)

    def rest(self, x, ids, present):
        present = present.to(x.dtype)
        for layer in self.layers:
            x = layer(x, (1 - present)[:, None, None, :] * -1e9)
        return (x * present[:, :, None]).sum(1) / present.sum(1, keepdim=True)

    def forward(self, ids, present):
        return self.rest(self.embed(ids, present), ids, present)


class Patches(nn.Module):
    """A vision transformer of the size "tiny"."""

    def __init__(self, width=192, layers=12, heads=3, classes=1000):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, stride=16)
        self.summary, self.places = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 197, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads, True) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.summary.expand(x.shape[0], -1, -1), x), 1) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


def vision(name):
    def build():
        import torchvision
        return getattr(torchvision.models, name)(weights=None)
    return build


def numbers(*shape):
    return lambda seed: torch.randn(*shape, generator=seed)


def integers(below, *shape):
    return lambda seed: torch.randint(below, shape, generator=seed)


def padded(length, used):
    return lambda _: (torch.arange(length) < used).long()[None]


class Model:
    """How a model is built, what it takes, and what is differentiated."""

    def __init__(self, about, build, inputs, loss, wanted=None):
        self.about, self.build, self.inputs, self.loss, self.wanted = about, build, inputs, loss, wanted


MODELS = {
    "mlp_tiny": Model("12-64-64-1, tanh, one sample", lambda: dense(12, 64, 64, 1, between=nn.Tanh), {"x": numbers(1, 12)}, "sum"),
    "mlp_mnist": Model("784-512-256-10, ReLU, 64 samples", lambda: dense(784, 512, 256, 10, between=nn.ReLU),
                       {"x": numbers(64, 784)}, "cross entropy", integers(10, 64)),
    "cnn_mnist": Model("2 convolutions, 2 dense layers, 32 samples", digits, {"x": numbers(32, 1, 28, 28)}, "cross entropy", integers(10, 32)),
    "pinn": Model("2-128-128-128-128-1, tanh and sine, 4096 points", field, {"x": numbers(4096, 2)}, "squares", numbers(4096, 1)),
    "lstm": Model("LSTM of 128 cells, 64 steps, 16 sequences", Recurrent, {"x": numbers(64, 16, 64)}, "squares", numbers(64, 16, 8)),
    "unet_small": Model("U-Net of 3 levels, 128x128", Segmentation, {"x": numbers(1, 3, 128, 128)}, "squares", numbers(1, 1, 128, 128)),
    "gpt_small": Model("GPT of 4 layers, width 256, 4x128 tokens", Writer, {"ids": integers(1000, 4, 128)}, "cross entropy", integers(1000, 4, 128)),
    "mobilenet_v2": Model("MobileNet v2, 224x224", vision("mobilenet_v2"), {"x": numbers(1, 3, 224, 224)}, "one"),
    "resnet18": Model("ResNet-18, 224x224", vision("resnet18"), {"x": numbers(1, 3, 224, 224)}, "one"),
    "vit_tiny": Model("ViT of 12 layers, width 192, 224x224", Patches, {"x": numbers(1, 3, 224, 224)}, "one"),
    "bert_mini6": Model("BERT of 6 layers, width 384, 128 tokens", Reader,
                        {"ids": integers(30522, 1, 128), "present": padded(128, 120)}, "sum"),
    "resnet18_b8": Model("ResNet-18, 8 pictures of 224x224", vision("resnet18"), {"x": numbers(8, 3, 224, 224)}, "cross entropy", integers(1000, 8)),
}


def loss_of(model, output, wanted):
    if model.loss == "sum":
        return output.sum()
    if model.loss == "one":
        return output[0, 7]
    if model.loss == "squares":
        return F.mse_loss(output, wanted)
    return F.cross_entropy(output.reshape(-1, output.shape[-1]), wanted.reshape(-1))


def arguments(name):
    """The inputs of a model, in order, and what the loss compares with."""
    model, seed = MODELS[name], torch.Generator().manual_seed(sum(map(ord, name)))
    inputs = {key: make(seed) for key, make in model.inputs.items()}
    return inputs, model.wanted and model.wanted(seed)


def network(name):
    """The network, with statistics in its normalizations that fit its input, ready for inference."""
    torch.manual_seed(1)
    built = MODELS[name].build()
    norms = [module for module in built.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for key, parameter in built.named_parameters():
            if parameter.ndim == 1:  # biases and norms: nowhere zero, no two equal
                parameter.add_(torch.rand_like(parameter) * 0.1)
        if norms:
            [picture] = arguments(name)[0].values()
            built.train()
            for norm in norms:
                norm.momentum = None
            for module in built.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
            built(torch.randn(4, *picture.shape[1:]))
    return built.eval()


class WithLoss(nn.Module):
    def __init__(self, name, built):
        super().__init__()
        self.model, self.built = MODELS[name], built

    def forward(self, *inputs):
        if self.model.wanted is None:
            return loss_of(self.model, self.built(*inputs), None)
        return loss_of(self.model, self.built(*inputs[:-1]), inputs[-1])


def gradients(name, built, dtype):
    """Output and gradients by name; `input` is the gradient by the input, or by the embedded tokens."""
    built = built.to(dtype)
    convert = lambda x: x.to(dtype) if x is not None and x.is_floating_point() else x
    inputs, wanted = arguments(name)
    inputs = [convert(x) for x in inputs.values()]
    if hasattr(built, "embed"):
        point = built.embed(*inputs)
        rest = inputs if isinstance(built, Reader) else []
        output = built.rest(point, *rest)
    else:
        point = inputs[0].requires_grad_()
        output = built(*inputs)
    parameters = dict(built.named_parameters())
    loss = loss_of(MODELS[name], output, convert(wanted))
    found = torch.autograd.grad(loss, [point, *parameters.values()])
    return output.detach(), dict(zip(["input", *parameters], found))


def embedded(path, built):
    """The name in the ONNX file of the tensor of embedded tokens: what the first layer reads twice."""
    import onnx
    graph = onnx.load(path, load_external_data=False).graph
    if isinstance(built, Reader):  # the output of the first normalization
        return next(node.output[0] for node in graph.node if node.op_type == "LayerNormalization")
    return next(node.input[0] for node in graph.node if node.op_type == "LayerNormalization")


def make(name, root):
    """Writes the folder of a model, unless it is there."""
    import onnx
    folder = pathlib.Path(root) / name
    if (folder / "about.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    inputs, wanted = arguments(name)
    built = network(name)
    values = dict(inputs) if wanted is None else {**inputs, "wanted": wanted}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export = dict(dynamo=False, opset_version=OPSET, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
        torch.onnx.export(built, tuple(inputs.values()), folder / "model.onnx", input_names=list(inputs), output_names=["y"], **export)
        torch.onnx.export(WithLoss(name, built), tuple(values.values()), folder / "loss.onnx", input_names=list(values),
                          output_names=["loss"], **export)
    files = {file: onnx.load(folder / file) for file in ("model.onnx", "loss.onnx")}
    # The exporter drops a prefix of the names or adds one: parameters are named as in the network, in both files.
    for file, exported in files.items():
        rename(exported.graph, "built.")
        onnx.save(exported, folder / file)
    known = {tensor.name for tensor in files["loss.onnx"].graph.initializer}
    single = {key: value.float().numpy() for key, value in gradients(name, built, torch.float32)[1].items()}
    output, double = gradients(name, built, torch.float64)
    # What a file holds under another name (a transposed weight, a merged one) cannot be asked for by name.
    parameters = [key for key in double if key in known]
    missing = [key for key in double if key not in known and key != "input"]
    expected = {key: double[key].numpy() for key in ["input", *parameters]}
    tokens = hasattr(built, "embed")
    point = embedded(folder / "loss.onnx", built) if tokens else next(iter(inputs))
    np.savez(folder / "expected.npz", **{f"gradient/{key}": value.astype(np.float32) for key, value in expected.items()},
             output=output.numpy().astype(np.float32))
    np.savez(folder / "inputs.npz", **{key: value.numpy() for key, value in values.items()})
    np.savez(folder / "model_inputs.npz", **{key: value.numpy() for key, value in inputs.items()})
    about = {
        "name": name, "about": MODELS[name].about, "nodes": len(files["model.onnx"].graph.node), "point": point,
        "parameters": parameters, "missing": missing,
        "elements": sum(parameter.numel() for parameter in built.parameters()),
        "f32_error": worst(single, expected),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1))
    return folder


def rename(graph, prefix):
    """Takes a prefix off the names of initializers."""
    names = {tensor.name: tensor.name.removeprefix(prefix) for tensor in graph.initializer}
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for node in graph.node:
        for position, operand in enumerate(node.input):
            node.input[position] = names.get(operand, operand)
