"""Contenders that are rare: OpenVINO, TensorFlow, tinygrad, and the last release of onnxruntime-training (1.19.2, of 2024).

The last one wants an environment of its own (`bench/run --python onnxruntime-training=PATH`), with numpy below 2, onnx 1.16
and protobuf below 5.
"""

import json
import os

import numpy as np


class Openvino:
    """The forward pass alone, in f32."""

    def __init__(self, folder, threads):
        import openvino
        self.folder = folder
        wishes = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self.open = lambda: openvino.Core().compile_model(folder / "model.onnx", "CPU", wishes)

    def prepare(self, mode):
        if mode != "forward":
            return None
        request, inputs = self.open().create_infer_request(), dict(np.load(self.folder / "model_inputs.npz"))
        return (lambda: request.infer(inputs)), lambda result: {"output": next(iter(result.values()))}


class Tensorflow:
    """tf.function of the four models that were written for it, by hand."""

    HAVE = ("mlp_tiny", "mlp_mnist", "cnn_mnist", "pinn")

    def __init__(self, folder, threads):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import onnx
        import tensorflow as tf
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.tf, self.about = tf, json.loads((folder / "about.json").read_text())
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(folder / "model.onnx").graph.initializer}
        self.parameters = {key: tf.constant(weights[key]) for key in self.about["parameters"] if key in weights}
        self.inputs = {key: tf.constant(value) for key, value in np.load(folder / "inputs.npz").items()}

    def network(self, weights, x):
        tf = self.tf

        def dense(x, layer):
            return tf.linalg.matmul(x, weights[f"{layer}.weight"], transpose_b=True) + weights[f"{layer}.bias"]

        def convolution(x, layer, padding):
            y = tf.nn.conv2d(x, tf.transpose(weights[f"{layer}.weight"], [2, 3, 1, 0]), 1, padding) + weights[f"{layer}.bias"]
            return tf.nn.max_pool2d(tf.nn.relu(y), 2, 2, "VALID")

        if self.about["name"] == "cnn_mnist":
            x = convolution(convolution(tf.transpose(x, [0, 2, 3, 1]), 0, "SAME"), 3, "VALID")
            x = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [x.shape[0], -1])
            return dense(tf.nn.relu(dense(x, 7)), 9)
        between = {"mlp_tiny": [tf.tanh] * 2, "mlp_mnist": [tf.nn.relu] * 2, "pinn": [tf.tanh, tf.sin] * 2}[self.about["name"]]
        for position, function in enumerate(between):
            x = function(dense(x, 2 * position))
        return dense(x, 2 * len(between))

    def loss(self, weights, x):
        tf, y, wanted = self.tf, self.network(weights, x), self.inputs.get("wanted")
        if wanted is None:
            return tf.reduce_sum(y)
        if wanted.dtype == tf.int64:
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=wanted, logits=y))
        return tf.reduce_mean((y - wanted) ** 2)

    def prepare(self, mode):
        tf, x = self.tf, self.inputs.get("x")
        if self.about["name"] not in self.HAVE or mode == "step":
            return None
        if mode == "forward":
            forward = tf.function(self.network)
            return (lambda: forward(self.parameters, x).numpy()), lambda result: {"output": result}

        @tf.function
        def both(weights, x):
            by = weights if mode == "parameters" else {"input": x}
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(by)
                loss = self.loss(weights, x)
            return tape.gradient(loss, by)

        def run():
            found = both(self.parameters, x)
            next(reversed(found.values())).numpy()  # waits for it
            return found
        return run, lambda found: {key: value.numpy() for key, value in found.items()}


class Tinygrad:
    """Its own reader of ONNX files, its own compiler, through the C compiler `clang`; always one thread."""

    def __init__(self, folder, threads):
        from tinygrad import Tensor, TinyJit
        from tinygrad.nn.onnx import OnnxRunner
        self.tensor, self.jit, self.runner = Tensor, TinyJit, OnnxRunner
        self.folder, self.about = folder, json.loads((folder / "about.json").read_text())

    def prepare(self, mode):
        if mode == "step":
            return None
        forward = mode == "forward"
        runner = self.runner(str(self.folder / ("model.onnx" if forward else "loss.onnx")))
        stored = np.load(self.folder / ("model_inputs.npz" if forward else "inputs.npz"))
        inputs = {key: self.tensor(value).realize() for key, value in stored.items()}
        names = self.about["parameters"] if mode == "parameters" else [self.about["point"]]
        if mode == "input" and names[0] not in inputs:
            return None  # there is no handle on a tensor in the middle
        if mode == "parameters":
            for name in names:
                runner.graph_values[name] = self.tensor(runner.graph_values[name].numpy()).realize()

        def call(**inputs):
            (result,) = runner(inputs).values()
            if forward:
                return result.realize()
            gradients = result.gradient(*(inputs.get(name, runner.graph_values.get(name)) for name in names))
            self.tensor.realize(*gradients)
            return gradients
        compiled = self.jit(call)
        for _ in range(3):  # the first calls are recorded
            compiled(**inputs)

        def run():
            from tinygrad import Device
            result = compiled(**inputs)
            Device[Device.DEFAULT].synchronize()
            return result
        if forward:
            return run, lambda result: {"output": result.numpy()}
        keys = names if mode == "parameters" else ["input"]
        return run, lambda result: {key: value.numpy() for key, value in zip(keys, result)}


class OnnxruntimeTraining:
    """The gradient graph that its own builder makes of the ONNX file, run in its session.

    Two things are mended before, without which it fails or is wrong: the optional outputs of LayerNormalization are named,
    and BatchNormalization of inference is written out as arithmetic (it differentiates that of training instead).
    """

    def __init__(self, folder, threads):
        import onnxruntime
        self.runtime, self.folder, self.about = onnxruntime, folder, json.loads((folder / "about.json").read_text())
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads, self.options.inter_op_num_threads, self.options.log_severity_level = threads, 1, 3

    def session(self, model):
        return self.runtime.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])

    def prepare(self, mode):
        if mode == "step":
            return None
        inputs = dict(np.load(self.folder / ("model_inputs.npz" if mode == "forward" else "inputs.npz")))
        if mode == "forward":
            session = self.session(str(self.folder / "model.onnx"))
            return (lambda: session.run(None, inputs)), lambda result: {"output": result[0]}
        import onnx
        from onnxruntime.capi._pybind_state import GradientGraphBuilder, get_optimized_model
        model = onnx.load(self.folder / "loss.onnx")
        mend(model.graph)
        parameters = self.about["parameters"]
        by = parameters if mode == "parameters" else [self.about["point"]]
        if mode == "parameters":  # its training graphs take the parameters as inputs
            weights = [tensor for tensor in model.graph.initializer if tensor.name in set(parameters)]
            rest = [tensor for tensor in model.graph.initializer if tensor.name not in set(parameters)]
            model.graph.input.extend(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in weights)
            inputs.update({tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in weights})
            del model.graph.initializer[:]
            model.graph.initializer.extend(rest)
        optimized = get_optimized_model(model.SerializeToString(), set(by), self.options)
        builder = GradientGraphBuilder(optimized, {"loss"}, set(by), "loss", self.options)
        builder.build()
        session = self.session(builder.get_model())
        bound, known = session.io_binding(), {one.name for one in session.get_inputs()}
        held = {key: self.runtime.OrtValue.ortvalue_from_numpy(value) for key, value in inputs.items() if key in known}
        for key, value in held.items():
            bound.bind_ortvalue_input(key, value)
        for key in ["loss", *(f"{key}_grad" for key in by)]:
            bound.bind_output(key, "cpu")

        def run(keep=(inputs, held)):  # what is bound shares memory with these
            session.run_with_iobinding(bound)
            return bound
        names = by if mode == "parameters" else ["input"]
        return run, lambda result: dict(zip(names, result.copy_outputs_to_cpu()[1:]))


def mend(graph):
    """See OnnxruntimeTraining."""
    from onnx import helper, numpy_helper
    weights = {tensor.name: tensor for tensor in graph.initializer}
    graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 1, 1], np.int64), "mended_shape"))
    nodes = []
    for position, node in enumerate(graph.node):
        if node.op_type == "LayerNormalization" and len(node.output) == 1:
            node.output.extend([f"mended{position}_mean", f"mended{position}_inverse"])
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        x, scale, shift, mean, variance = node.input
        epsilon = next(attribute.f for attribute in node.attribute if attribute.name == "epsilon")
        inverse = 1.0 / np.sqrt(numpy_helper.to_array(weights[variance]).astype(np.float64) + epsilon)
        graph.initializer.append(numpy_helper.from_array(inverse.astype(np.float32), f"mended{position}_inverse"))
        name = lambda part: f"mended{position}_{part}"
        for operator, operands, result in [
            ("Mul", [scale, name("inverse")], name("factor")),
            ("Mul", [mean, name("factor")], name("moved")),
            ("Sub", [shift, name("moved")], name("rest")),
            ("Reshape", [name("factor"), "mended_shape"], name("factors")),
            ("Reshape", [name("rest"), "mended_shape"], name("rests")),
            ("Mul", [x, name("factors")], name("scaled")),
            ("Add", [name("scaled"), name("rests")], node.output[0]),
        ]:
            nodes.append(helper.make_node(operator, operands, [result], f"{result}_made"))
    del graph.node[:]
    graph.node.extend(nodes)
