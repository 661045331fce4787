"""The cases of `bench/operators`: operators, layers and blocks as functions of torch, by family."""

import torch
from torch import nn
from torch.nn import functional as F

FAMILIES = {}
ROWS, IMAGES = (64, 4096), (4, 32, 64, 64)


class Function(nn.Module):
    """A function of tensors and of layers, which come behind."""

    def __init__(self, function, layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *inputs):
        return self.function(*inputs, *self.layers)


def case(family, name, function, *shapes, layers=lambda: (), values=None):
    """`values` makes inputs that are not normally distributed numbers of these shapes."""
    def make():
        inputs = tuple(values()) if values else tuple(torch.randn(shape) for shape in shapes)
        return Function(function, layers()), inputs
    FAMILIES.setdefault(family, {})[name] = make


def layer(family, name, make, *shape, pick=lambda result: result):
    """One layer of one input."""
    case(family, name, lambda x, own: pick(own(x)), shape, layers=lambda: (make(),))


def attention(q, k, v, bias=0.0):
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(-1) @ v


def numbers(*shape, below):
    """Fixed positions."""
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(1))


for name, function in {
    "relu": F.relu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu,
    "hardswish": F.hardswish, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": F.softplus, "mish": F.mish,
    "elu": F.elu, "leaky_relu": F.leaky_relu, "exp": torch.exp, "sin": torch.sin, "square": lambda x: x ** 2,
    "power": lambda x: (x.abs() + 0.1) ** 1.7, "log": lambda x: (x.abs() + 0.1).log(), "clip": lambda x: x.clamp(-1, 1),
    "sqrt": lambda x: (x.abs() + 0.1).sqrt(), "abs": torch.abs, "erf": torch.erf, "atan": torch.atan,
}.items():
    case("Elementwise", name, function, ROWS)
case("Elementwise", "add_row", lambda a, b: a + b, ROWS, (4096,))
case("Elementwise", "add_column", lambda a, b: a + b, ROWS, (64, 1))
case("Elementwise", "multiply_channels", lambda a, b: a * b, IMAGES, (1, 32, 1, 1))
case("Elementwise", "divide", lambda a, b: a / (b.abs() + 1), ROWS, ROWS)
case("Elementwise", "maximum", torch.maximum, ROWS, ROWS)
case("Elementwise", "where", lambda a, b: torch.where(a > 0, a * b, b), ROWS, ROWS)
case("Elementwise", "pairs", lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1), (256, 32), (256, 32))

layer("Normalization", "layer_norm", lambda: nn.LayerNorm(768), 512, 768)
layer("Normalization", "group_norm", lambda: nn.GroupNorm(8, 32), *IMAGES)
layer("Normalization", "instance_norm", lambda: nn.InstanceNorm2d(32, affine=True), *IMAGES)
case("Normalization", "rms_norm", lambda x, w: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * w, (512, 768), (768,))
case("Normalization", "norm_of_channels",
     lambda x: (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-6), IMAGES)
case("Normalization", "unit_length", lambda x: x / (x.norm(dim=1, keepdim=True) + 1e-6), (512, 256))
case("Normalization", "softmax", lambda x: x.softmax(-1), (512, 1000))
case("Normalization", "softmax_of_channels", lambda x: x.softmax(1), (2, 21, 128, 128))
case("Normalization", "log_softmax", lambda x: x.log_softmax(-1), (512, 1000))
case("Normalization", "log_softmax_words", lambda x: x.log_softmax(-1), (64, 32000))
case("Normalization", "log_sum_exp", lambda x: torch.logsumexp(x, -1), (512, 1000))

for name, function in {
    "sum": torch.sum, "mean_of_columns": lambda x: x.mean(0), "mean_of_rows": lambda x: x.mean(1),
    "max_of_columns": lambda x: x.amax(0), "max_of_rows": lambda x: x.amax(1), "deviation": lambda x: x.std(1),
    "running_sum": lambda x: x.cumsum(1), "running_sum_down": lambda x: x.cumsum(0),
}.items():
    case("Reductions", name, function, (512, 512))
# Of equal numbers PyTorch may take any first.
for name, function in {"top_10": lambda x: x.topk(10, dim=1)[0], "sort": lambda x: x.sort(1)[0]}.items():
    case("Reductions", name, function, values=lambda: [torch.randperm(512 * 512).reshape(512, 512) / 1000])
case("Reductions", "product", lambda x: x.prod(1), values=lambda: [torch.randn(1024, 256) * 0.1 + 1])

case("Moving data", "channels_last", lambda x: x.permute(0, 2, 3, 1).contiguous() * 2, IMAGES)
case("Moving data", "transpose", lambda x: x.transpose(1, 2).contiguous() * 2, (16, 256, 256))
case("Moving data", "concat", lambda a, b: torch.cat([a, b], 1) * 2, IMAGES, IMAGES)
case("Moving data", "split", lambda x: sum(part * at for at, part in enumerate(x.chunk(4, 1), 1)), IMAGES)
case("Moving data", "slice", lambda x: x[:, :, 1:-1, 1:-1] * 2, IMAGES)
case("Moving data", "every_second", lambda x: x[:, :, ::2, ::2] * 2, IMAGES)
for mode in ("constant", "reflect", "replicate"):
    case("Moving data", f"pad_{mode}", lambda x, mode=mode: F.pad(x, (2, 2, 2, 2), mode=mode) * 2, IMAGES)
case("Moving data", "flip", lambda x: x.flip(3) * 2, IMAGES)
case("Moving data", "roll", lambda x: x.roll((3, 3), (2, 3)) * 2, IMAGES)
case("Moving data", "tile", lambda x: x.repeat(4, 4) * 2, (256, 256))
case("Moving data", "embedding", lambda w, at=numbers(512, below=5000): F.embedding(at, w) * 2, (5000, 256))
case("Moving data", "gather_columns", lambda x, at=numbers(256, below=512): x[:, at] * 2, (512, 512))
case("Moving data", "gather_elements", lambda x, at=numbers(512, 512, below=512): x.gather(1, at) * 2, (512, 512))
case("Moving data", "scatter_add", lambda x, at=numbers(512, 512, below=512): torch.zeros(512, 512).scatter_add(1, at, x),
     (512, 512))
case("Moving data", "pixel_shuffle", lambda x: F.pixel_shuffle(x, 2) * 2, IMAGES)
case("Moving data", "triangle", lambda x: torch.tril(x) * 2, (512, 512))

for name, function in {
    "max_2": lambda x: F.max_pool2d(x, 2), "max_3_by_2": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_3": lambda x: F.max_pool2d(x, 3, 1, 1), "max_5": lambda x: F.max_pool2d(x, 5, 1, 2),
    "average_2": lambda x: F.avg_pool2d(x, 2), "average_3": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "average_to_8": lambda x: F.adaptive_avg_pool2d(x, 8), "average_of_all": lambda x: F.adaptive_avg_pool2d(x, 1),
    "max_of_all": lambda x: F.adaptive_max_pool2d(x, 1),
    "nearest_twice": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "nearest_odd": lambda x: F.interpolate(x, size=(100, 90), mode="nearest"),
    "linear_twice": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "linear_odd": lambda x: F.interpolate(x, size=(100, 90), mode="bilinear", align_corners=False),
    "cubic_twice": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False),
}.items():
    case("Pooling and resizing", name, function, (2, 32, 64, 64))
case("Pooling and resizing", "grid_sample", lambda x, grid: F.grid_sample(x, grid, align_corners=False),
     values=lambda: [torch.randn(2, 16, 64, 64), torch.rand(2, 64, 64, 2) * 2 - 1])

for name, make, shape in [
    ("conv1d", lambda: nn.Conv1d(64, 64, 3, padding=1), (8, 64, 512)),
    ("conv1d_dilated", lambda: nn.Conv1d(64, 64, 3, padding=8, dilation=8), (8, 64, 512)),
    ("conv1d_depthwise_31", lambda: nn.Conv1d(128, 128, 31, padding=15, groups=128), (4, 128, 256)),
    ("conv_1x1", lambda: nn.Conv2d(64, 128, 1), (2, 64, 56, 56)),
    ("conv_3x3", lambda: nn.Conv2d(64, 64, 3, padding=1), (2, 64, 56, 56)),
    ("conv_3x3_by_2", lambda: nn.Conv2d(64, 128, 3, 2, 1), (2, 64, 56, 56)),
    ("conv_5x5", lambda: nn.Conv2d(32, 64, 5, padding=2), (2, 32, 32, 32)),
    ("conv_7x7_by_2", lambda: nn.Conv2d(3, 64, 7, 2, 3), (1, 3, 224, 224)),
    ("conv_8x8_by_4", lambda: nn.Conv2d(4, 32, 8, 4), (8, 4, 84, 84)),
    ("patches_16", lambda: nn.Conv2d(3, 192, 16, 16), (2, 3, 224, 224)),
    ("patches_4", lambda: nn.Conv2d(3, 96, 4, 4), (2, 3, 224, 224)),
    ("conv_grouped_32", lambda: nn.Conv2d(128, 128, 3, padding=1, groups=32), (2, 128, 56, 56)),
    ("conv_grouped_4", lambda: nn.Conv2d(128, 128, 3, padding=1, groups=4), (2, 128, 28, 28)),
    ("depthwise_3x3", lambda: nn.Conv2d(128, 128, 3, padding=1, groups=128), (2, 128, 56, 56)),
    ("depthwise_3x3_by_2", lambda: nn.Conv2d(128, 128, 3, 2, 1, groups=128), (2, 128, 56, 56)),
    ("depthwise_5x5", lambda: nn.Conv2d(128, 128, 5, padding=2, groups=128), (2, 128, 28, 28)),
    ("depthwise_7x7", lambda: nn.Conv2d(96, 96, 7, padding=3, groups=96), (2, 96, 56, 56)),
    ("conv_dilated", lambda: nn.Conv2d(64, 64, 3, padding=6, dilation=6), (2, 64, 32, 32)),
    ("conv_1x7", lambda: nn.Conv2d(64, 64, (1, 7), padding=(0, 3)), (2, 64, 32, 32)),
    ("transposed_2", lambda: nn.ConvTranspose2d(64, 32, 2, 2), (2, 64, 32, 32)),
    ("transposed_4", lambda: nn.ConvTranspose2d(64, 32, 4, 2, 1), (2, 64, 32, 32)),
    ("transposed_1d", lambda: nn.ConvTranspose1d(128, 64, 16, 8, 4), (2, 128, 128)),
    ("conv3d", lambda: nn.Conv3d(16, 32, 3, padding=1), (1, 16, 16, 32, 32)),
]:
    layer("Convolutions", name, make, *shape)

case("Products", "square_512", torch.matmul, (512, 512), (512, 512))
case("Products", "many_64", torch.matmul, (64, 64, 64), (64, 64, 64))
case("Products", "many_4", torch.matmul, (4096, 4, 4), (4096, 4, 4))
case("Products", "matrix_vector", torch.matmul, (2048, 2048), (2048,))
case("Products", "row_matrix", torch.matmul, (1, 2048), (2048, 2048))
case("Products", "outer", torch.matmul, (1024, 1), (1, 1024))
case("Products", "bilinear", lambda a, w, b: torch.einsum("bi,oij,bj->bo", a, w, b), (64, 64), (32, 64, 64), (64, 64))
case("Products", "quadratic", lambda x, a: ((x @ a) * x).sum(-1), (512, 256), (256, 256))
case("Products", "gram", lambda x: x.transpose(1, 2) @ x, (8, 128, 64))

for name, make, shape in [
    ("lstm", lambda: nn.LSTM(64, 128), (64, 8, 64)), ("lstm_single", lambda: nn.LSTM(32, 64), (100, 1, 32)),
    ("lstm_both_ways", lambda: nn.LSTM(64, 64, bidirectional=True), (64, 8, 64)),
    ("gru", lambda: nn.GRU(64, 128), (64, 8, 64)), ("rnn", lambda: nn.RNN(64, 128), (64, 8, 64)),
]:
    layer("Recurrent layers", name, make, *shape, pick=lambda result: result[0])

HEADS = [(2, 8, 128, 64)] * 3
case("Attention", "attention_128", attention, *HEADS)
case("Attention", "attention_1024", attention, *[(1, 4, 1024, 64)] * 3)
case("Attention", "causal_512", lambda q, k, v: attention(q, k, v, torch.full((512, 512), -1e9).triu(1)), *[(1, 8, 512, 64)] * 3)
case("Attention", "masked", attention, *HEADS, (2, 1, 1, 128))
case("Attention", "windows", attention, *[(64, 3, 49, 32)] * 3, (3, 49, 49))
case("Attention", "one_token", attention, (1, 16, 1, 64), (1, 16, 1024, 64), (1, 16, 1024, 64))
case("Attention", "linear", lambda q, k, v: (F.elu(q) + 1) @ ((F.elu(k) + 1).transpose(-1, -2) @ v), *[(2, 8, 256, 64)] * 3)

case("Blocks", "swiglu", lambda x, a, b, c: c(F.silu(a(x)) * b(x)), (128, 256),
     layers=lambda: (nn.Linear(256, 704, bias=False), nn.Linear(256, 704, bias=False), nn.Linear(704, 256, bias=False)))
case("Blocks", "convnext", lambda x, d, n, a, b: x + b(F.gelu(a(n(d(x).permute(0, 2, 3, 1))))).permute(0, 3, 1, 2),
     (2, 96, 28, 28), layers=lambda: (nn.Conv2d(96, 96, 7, padding=3, groups=96), nn.LayerNorm(96), nn.Linear(96, 384),
                                      nn.Linear(384, 96)))
case("Blocks", "squeeze", lambda x, a, b: x * torch.sigmoid(b(F.relu(a(x.mean((2, 3), keepdim=True))))), (4, 64, 28, 28),
     layers=lambda: (nn.Conv2d(64, 16, 1), nn.Conv2d(16, 64, 1)))
case("Blocks", "wavenet", lambda x, a, b, c: x + c(torch.tanh(a(x)) * torch.sigmoid(b(x))), (2, 32, 1024),
     layers=lambda: (*(nn.Conv1d(32, 32, 3, padding=4, dilation=4) for _ in range(2)), nn.Conv1d(32, 32, 1)))
case("Blocks", "graph", lambda x, a, f, g: g(a @ F.relu(f(a @ x))), (512, 64), (512, 512),
     layers=lambda: (nn.Linear(64, 64), nn.Linear(64, 16)))
case("Blocks", "mlp_single", lambda x, a, b, c: c(F.relu(b(F.relu(a(x))))), (1, 64),
     layers=lambda: (nn.Linear(64, 256), nn.Linear(256, 256), nn.Linear(256, 10)))
case("Blocks", "mlp_4096", lambda x, a, b, c: c(torch.tanh(b(torch.tanh(a(x))))), (4096, 2),
     layers=lambda: (nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 1)))
case("Blocks", "siren", lambda x, a, b, c: c(torch.sin(30 * b(torch.sin(30 * a(x))))), (4096, 2),
     layers=lambda: (nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 3)))
case("Blocks", "total_variation",
     lambda x: (x[..., 1:] - x[..., :-1]).abs().sum() + (x[..., 1:, :] - x[..., :-1, :]).abs().sum(), (1, 3, 224, 224))
case("Blocks", "clusters", lambda x, c: -torch.logsumexp(-((x[:, None] - c) ** 2).sum(-1), -1), (1024, 16), (32, 16))
