"""One contender in a process of its own: `rivals.py NAME MODEL_FOLDER THREADS`.

It reads lines of JSON and answers each with one: {"do": "prepare", "mode": m} gets ready, runs once, and tells how long
that took and how far the results are from the reference; {"do": "time", "mode": m, "seconds": s} runs for so long and
tells the median time of a call, and the processor's time for one, of all threads. Modes: `forward`, `input` (the loss and its gradient by the input), `parameters`.
With FIRST as a fourth argument it computes one gradient by all parameters, and says when it has it.
"""

import json
import pathlib
import statistics
import sys
import time

import numpy as np

from distances import distance, worst
from rivals_more import OnnxruntimeTraining, Openvino, Tensorflow, Tinygrad


class Torch:
    """PyTorch, operator by operator."""

    def __init__(self, folder, threads):
        import models
        import torch
        self.torch, self.models, self.folder = torch, models, folder
        torch.set_num_threads(threads)
        self.about = json.loads((folder / "about.json").read_text())
        self.name = self.about["name"]
        self.inputs, self.wanted = self.models.arguments(self.name)

    def compile(self, function):
        return function

    def prepare(self, mode):
        torch = self.torch
        network = self.models.network(self.name).requires_grad_(mode in ("parameters", "step"))
        loss = self.compile(lambda *inputs: self.models.loss_of(self.models.MODELS[self.name], network(*inputs), self.wanted))
        inputs = list(self.inputs.values())
        if mode == "forward":
            forward = self.compile(lambda *inputs: network(*inputs))

            def run():
                with torch.no_grad():
                    return forward(*inputs)
            return run, lambda result: {"output": result.numpy()}
        if mode == "parameters":
            names, parameters = zip(*network.named_parameters())
            run = lambda: torch.autograd.grad(loss(*inputs), parameters)
            return run, lambda result: {name: value.numpy() for name, value in zip(names, result)}
        if mode == "step":
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

            def run():
                loss(*inputs).backward()
                optimizer.step()
                result = {name: value.grad for name, value in network.named_parameters()}
                optimizer.zero_grad()
                return result
            return run, lambda result: {name: value.numpy() for name, value in result.items()}
        if hasattr(network, "embed"):
            rest = inputs if isinstance(network, self.models.Reader) else []
            after = self.compile(lambda point, *rest: self.models.loss_of(self.models.MODELS[self.name], network.rest(point, *rest), self.wanted))

            def run():
                with torch.no_grad():
                    point = network.embed(*inputs)
                point.requires_grad_()
                return torch.autograd.grad(after(point, *rest), [point])
        else:
            point = inputs[0].clone().requires_grad_()
            run = lambda: torch.autograd.grad(loss(point), [point])
        return run, lambda result: {"input": result[0].numpy()}


class TorchCompile(Torch):
    """torch.compile of the loss; what remains is PyTorch's."""

    def compile(self, function):
        return self.torch.compile(function)


class Jax:
    """The ONNX file in jax.numpy, compiled as a whole: value and gradient."""

    def __init__(self, folder, threads):
        import onnx_to_jax
        self.about = json.loads((folder / "about.json").read_text())
        self.model, self.loss = (onnx_to_jax.load(folder / file) for file in ("model.onnx", "loss.onnx"))
        self.inputs = dict(np.load(folder / "inputs.npz"))

    def prepare(self, mode):
        import jax
        place = lambda values: {key: jax.numpy.asarray(value) for key, value in values.items()}
        inputs = place(self.inputs)
        if mode == "forward":
            parameters = place(self.model.floats)
            forward = jax.jit(lambda parameters, inputs: self.model(parameters, inputs))
            return (lambda: jax.block_until_ready(forward(parameters, inputs))), lambda result: {"output": result}
        parameters = place({key: self.loss.floats[key] for key in self.about["parameters"]})
        if mode == "parameters":
            both = jax.jit(jax.value_and_grad(lambda parameters, inputs: self.loss(parameters, inputs)))
            return (lambda: jax.block_until_ready(both(parameters, inputs))), lambda result: result[1]
        if mode == "step":
            return self.step(parameters, inputs)
        point = self.about["point"]
        if point in inputs:
            start = inputs.pop(point)
            whole = lambda value, inputs, parameters: self.loss(parameters, {**inputs, point: value})
        else:  # zeros, added to the tensor in the middle
            start = jax.numpy.zeros_like(self.loss.value(point, parameters, inputs))
            whole = lambda value, inputs, parameters: self.loss(parameters, inputs, {point: value})
        both = jax.jit(jax.value_and_grad(whole))
        return (lambda: jax.block_until_ready(both(start, inputs, parameters))), lambda result: {"input": result[1]}

    def step(self, parameters, inputs, rate=1e-5, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.01):
        """AdamW as optax writes it, in the same function as the gradients; the state is given away to the next."""
        import jax
        mapped = jax.tree_util.tree_map

        def step(state, inputs):
            parameters, first, second, count = state
            value, gradients = jax.value_and_grad(lambda parameters: self.loss(parameters, inputs))(parameters)
            count = count + 1
            first = mapped(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradients)
            second = mapped(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, gradients)
            left1, left2 = 1 - beta1**count, 1 - beta2**count
            new = lambda p, m, v: p - rate * (m / left1 / (jax.numpy.sqrt(v / left2) + epsilon) + decay * p)
            return value, (mapped(new, parameters, first, second), first, second, count)
        compiled = jax.jit(step, donate_argnums=0)
        zeros = lambda: mapped(jax.numpy.zeros_like, parameters)
        state = [(mapped(jax.numpy.array, parameters), zeros(), zeros(), jax.numpy.float32(0))]

        def run():
            value, state[0] = jax.block_until_ready(compiled(state[0], inputs))
            return state[0][1]
        # After the first step, the first moment is the gradient, but for a factor.
        return run, lambda result: {key: np.asarray(value) / (1 - beta1) for key, value in result.items()}


class Onnxruntime:
    """The forward pass alone: the released package computes no gradients."""

    def __init__(self, folder, threads):
        import onnxruntime
        self.folder, options = folder, onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        self.open = lambda: onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def prepare(self, mode):
        if mode != "forward":
            return None
        session, inputs = self.open(), dict(np.load(self.folder / "model_inputs.npz"))
        return (lambda: session.run(None, inputs)), lambda result: {"output": result[0]}


RIVALS = {"torch": Torch, "torch.compile": TorchCompile, "jax": Jax, "onnxruntime": Onnxruntime, "openvino": Openvino, "tensorflow": Tensorflow,
          "tinygrad": Tinygrad, "onnxruntime-training": OnnxruntimeTraining}


def errors(folder, found):
    """The worst distance of the results from the reference."""
    stored = np.load(folder / "expected.npz")
    if "output" in found:
        return worst(found, {"output": stored["output"]})
    expected = {key.removeprefix("gradient/"): stored[key] for key in stored.files if key.startswith("gradient/")}
    largest = max(float(np.linalg.norm(value)) for value in expected.values())
    return max(distance(found[key], value, largest) for key, value in expected.items() if key in found)


def answer(value):
    print(json.dumps(value), flush=True)


def main():
    name, folder, threads = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    contender = RIVALS[name](folder, threads)
    if sys.argv[4:] == ["FIRST"]:
        run, _ = contender.prepare("parameters")
        run()
        return answer({"first": True})
    ready = {}
    for line in sys.stdin:
        order = json.loads(line)
        mode = order["mode"]
        try:
            if order["do"] == "prepare":
                begun = time.perf_counter()
                prepared = contender.prepare(mode)
                if prepared is None:
                    answer({"absent": True})
                    continue
                ready[mode], read = prepared
                result = ready[mode]()
                taken = time.perf_counter() - begun
                error = errors(folder, read(result))
                for _ in range(3):
                    ready[mode]()
                answer({"seconds": taken, "error": error})
            else:
                times, processor, end = [], time.process_time(), time.perf_counter() + order["seconds"]
                while not times or time.perf_counter() < end:
                    begun = time.perf_counter()
                    ready[mode]()
                    times.append(time.perf_counter() - begun)
                processor = (time.process_time() - processor) / len(times)
                answer({"median": statistics.median(times), "processor": processor, "runs": len(times)})
        except Exception as problem:  # whatever a rival cannot do is a result
            answer({"failed": f"{type(problem).__name__}: {str(problem)[:200]}"})


if __name__ == "__main__":
    main()
