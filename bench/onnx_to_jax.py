"""An ONNX graph as a function of jax.numpy: what is known while it is traced (shapes, constants) stays in NumPy.

Only the operators of the benchmark's models.
"""

import jax
import numpy as np
import onnx
from jax import lax
from jax import numpy as jnp
from onnx import helper, numpy_helper


def load(path):
    return Graph(onnx.load(path).graph)


class Graph:
    def __init__(self, graph):
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.floats = {key: value for key, value in self.constants.items() if value.dtype == np.float32}
        self.output = graph.output[0].name
        self.nodes = [(node.op_type, node.input, node.output, attributes(node)) for node in graph.node]

    def tensors(self, parameters, inputs, added):
        known = {"": None, **self.constants, **parameters, **inputs}
        for kind, operands, results, options in self.nodes:
            values = OPERATORS[kind](*(known[name] for name in operands), **options)
            for name, value in zip(results, values if isinstance(values, (tuple, list)) else (values,)):
                known[name] = value + added[name] if name in added else value
        return known

    def __call__(self, parameters, inputs, added={}):
        return self.tensors(parameters, inputs, added)[self.output]

    def value(self, name, parameters, inputs):
        return self.tensors(parameters, inputs, {})[name]


def attributes(node):
    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        found[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return found


def library(*values):
    """NumPy for what is known, JAX for the rest."""
    return np if all(value is None or isinstance(value, (np.ndarray, np.generic, int)) for value in values) else jnp


def plain(name):
    return lambda *values: getattr(library(*values), name)(*values)


def integers(values):
    return [int(value) for value in np.asarray(values).ravel()]


def divide(a, b):
    return a // b if np.issubdtype(a.dtype, np.integer) else a / b


def over_channels(values, rank):
    return values.reshape(1, -1, *[1] * (rank - 2))


def sides(pads, rank):
    pads = pads or [0] * 2 * rank
    return list(zip(pads[:rank], pads[rank:]))


def conv(x, weights, bias=None, *, group=1, strides=None, pads=None, dilations=None, **_):
    rank = x.ndim - 2
    result = lax.conv_general_dilated(x, weights, strides or [1] * rank, sides(pads, rank), rhs_dilation=dilations, feature_group_count=group)
    return result if bias is None else result + over_channels(bias, x.ndim)


def conv_transpose(x, weights, bias=None, *, strides=None, pads=None, **_):
    rank = x.ndim - 2
    edges = [(size - 1 - low, size - 1 - high) for size, (low, high) in zip(weights.shape[2:], sides(pads, rank))]
    mirrored = jnp.flip(weights, range(2, x.ndim)).swapaxes(0, 1)
    result = lax.conv_general_dilated(x, mirrored, [1] * rank, edges, lhs_dilation=strides)
    return result if bias is None else result + over_channels(bias, x.ndim)


def max_pool(x, *, kernel_shape, strides=None, pads=None, **_):
    rank = x.ndim - 2
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, *kernel_shape), (1, 1, *(strides or [1] * rank)),
                             [(0, 0), (0, 0), *sides(pads, rank)])


def batch_norm(x, scale, bias, mean, variance, *, epsilon=1e-5, **_):
    factor = scale / jnp.sqrt(variance + epsilon)
    return x * over_channels(factor, x.ndim) + over_channels(bias - mean * factor, x.ndim)


def layer_norm(x, scale, bias=None, *, axis=-1, epsilon=1e-5, **_):
    axes = tuple(range(axis % x.ndim, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    result = centred / jnp.sqrt((centred ** 2).mean(axes, keepdims=True) + epsilon) * scale
    return result if bias is None else result + bias


def gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    result = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return result if c is None else result + beta * c


def reshape(x, shape, *, allowzero=0):
    shape = integers(shape)
    return x.reshape([x.shape[axis] if length == 0 and not allowzero else length for axis, length in enumerate(shape)])


def cut(x, starts, ends, axes=None, steps=None):
    ranges = [slice(None)] * x.ndim
    starts, ends = integers(starts), integers(ends)
    axes = range(len(starts)) if axes is None else integers(axes)
    steps = [1] * len(starts) if steps is None else integers(steps)
    for axis, start, end, step in zip(axes, starts, ends, steps):
        ranges[axis] = slice(start, end, step)
    return x[tuple(ranges)]


def unsqueeze(x, axes):
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in integers(axes)):
        x = library(x).expand_dims(x, axis)
    return x


def reduce(name):
    def apply(x, given=None, *, axes=None, keepdims=1, **_):
        axes = axes if given is None else integers(given)
        return getattr(library(x), name)(x, axis=tuple(axes) if axes else None, keepdims=bool(keepdims))
    return apply


def expand(x, shape):
    return library(x).broadcast_to(x, np.broadcast_shapes(x.shape, tuple(integers(shape))))


def resize(x, region=None, scales=None, sizes=None, *, mode, coordinate_transformation_mode="half_pixel", **_):
    assert mode == "linear" and coordinate_transformation_mode in ("half_pixel", "pytorch_half_pixel")
    if sizes is None or len(sizes) == 0:
        sizes = [int(length * scale) for length, scale in zip(x.shape, np.asarray(scales))]
    return jax.image.resize(x, integers(sizes), "bilinear", antialias=False)


def lstm(x, weights, recurrent, bias=None, lengths=None, state=None, cell=None, peepholes=None, *, hidden_size, **_):
    """One direction; gates in the order of the format: input, output, forget, candidate."""
    given = x @ weights[0].T
    if bias is not None:
        given = given + bias[0][: 4 * hidden_size] + bias[0][4 * hidden_size:]
    zeros = jnp.zeros((x.shape[1], hidden_size), x.dtype)

    def step(carried, given):
        state, cell = carried
        let_in, let_out, keep, candidate = jnp.split(given + state @ recurrent[0].T, 4, -1)
        cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(let_in) * jnp.tanh(candidate)
        state = jax.nn.sigmoid(let_out) * jnp.tanh(cell)
        return (state, cell), state

    start = (zeros if state is None else state[0], zeros if cell is None else cell[0])
    (state, cell), states = lax.scan(step, start, given)
    return states[:, None], state[None], cell[None]


def cross_entropy(scores, labels, *_, **__):
    return -jnp.take_along_axis(jax.nn.log_softmax(scores, 1), labels[:, None], 1).mean()


OPERATORS = {
    **{name: plain(function) for name, function in {
        "Add": "add", "Sub": "subtract", "Mul": "multiply", "Sqrt": "sqrt", "Tanh": "tanh", "Sin": "sin", "Pow": "power", "Neg": "negative",
        "MatMul": "matmul", "Where": "where", "Equal": "equal", "Mod": "mod", "Less": "less", "Exp": "exp"}.items()},
    "Div": divide, "Erf": lax.erf, "Sigmoid": jax.nn.sigmoid, "Relu": jax.nn.relu, "Clip": lambda x, low=None, high=None: jnp.clip(x, low, high),
    "Softmax": lambda x, axis=-1: jax.nn.softmax(x, axis), "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": max_pool,
    "BatchNormalization": batch_norm, "LayerNormalization": layer_norm, "Gemm": gemm, "Reshape": reshape, "Slice": cut,
    "Unsqueeze": unsqueeze, "Squeeze": lambda x, axes=None: library(x).squeeze(x, None if axes is None else tuple(integers(axes))),
    "ReduceSum": reduce("sum"), "ReduceMean": reduce("mean"), "Expand": expand, "Resize": resize, "LSTM": lstm,
    "SoftmaxCrossEntropyLoss": cross_entropy, "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdims=True),
    "Flatten": lambda x, axis=1: x.reshape(int(np.prod(x.shape[:axis])), -1), "Transpose": lambda x, perm: x.transpose(perm),
    "Concat": lambda *values, axis: library(*values).concatenate(values, axis), "Identity": lambda x: x,
    "Gather": lambda x, index, axis=0: library(x, index).take(x, index, axis), "Constant": lambda value: value,
    "Cast": lambda x, to: x.astype(helper.tensor_dtype_to_np_dtype(to)), "Shape": lambda x: np.asarray(x.shape, np.int64),
    "ConstantOfShape": lambda shape, value=np.zeros(1, np.float32): np.full(integers(shape), value[0]),
}
