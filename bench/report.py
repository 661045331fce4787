"""The document of measurements."""

import math
import statistics

import charts

MODES = {"forward": "Forward", "input": "Value and gradient by the input", "parameters": "Value and gradient by all parameters",
         "step": "A step of training with AdamW"}
ORDER = ["gradc", "torch", "torch.compile", "jax", "tensorflow", "tinygrad", "onnxruntime-training", "onnxruntime", "openvino"]
FORWARD_ONLY = {"onnxruntime", "openvino"}


def milliseconds(seconds):
    value = seconds * 1e3
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def median(cell):
    """The median of the rounds; nothing where it was not measured."""
    return statistics.median(cell["times"]) if cell.get("right") and cell.get("times") else None


def spread(cell):
    return max(cell["times"]) / min(cell["times"])


def shown(cell):
    value = median(cell)
    if value is not None:
        return milliseconds(value)
    if "failed" in cell:
        return "fails"
    return "wrong" if "error" in cell else "–"


def models(kept, threads):
    return [key.split("/")[0] for key in kept["cells"] if key.endswith(f"/{threads}")]


def contenders(kept):
    found = {name for cell in kept["cells"].values() for name in cell}
    return [name for name in ORDER if name in found]


def table(kept, threads, mode, names):
    lines = ["| model | " + " | ".join(names) + " | gradc / best other |", "|---|" + "---:|" * (len(names) + 1)]
    for model in models(kept, threads):
        cell = kept["cells"][f"{model}/{threads}"]
        found = best(cell, mode)
        ratio = f"{found[0]:.2f}" if found else "–"
        row = [shown(cell[name].get(mode, {})) if name in cell else "–" for name in names]
        lines.append(f"| {model} | " + " | ".join(row) + f" | {ratio} |")
    return "\n".join(lines)


def first_table(kept, threads, names):
    names = [name for name in names if name not in FORWARD_ONLY]
    lines = ["| model | " + " | ".join(f"{name} s | MiB" for name in names) + " | MiB of gradc / torch |", "|---|" + "---:|" * (2 * len(names) + 1)]
    for model in models(kept, threads):
        row, bytes = [], {}
        for name in names:
            told = kept["cells"][f"{model}/{threads}"].get(name, {}).get("first") or {}
            bytes[name] = told.get("bytes")
            row += [f"{told['seconds']:.2f}", f"{told['bytes'] / 2**20:.0f}"] if told else ["–", "–"]
        row.append(f"{bytes['gradc'] / bytes['torch']:.2f}" if bytes.get("gradc") and bytes.get("torch") else "–")
        lines.append(f"| {model} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def model_table(kept, threads):
    lines = ["| model | what | ONNX nodes | parameters | gradc compiles in | its arena | heap calls a run |", "|---|---|---:|---:|---:|---:|---:|"]
    for model in models(kept, threads):
        about = kept["about"][model]
        last = kept["cells"][f"{model}/{threads}"].get("gradc", {}).get("last", {}).get("parameters")
        facts = [f"{last['compile'] * 1e3:.0f} ms", f"{last['arena'] / 2**20:.1f} MiB", f"{last['heap_calls']:g}"] if last else ["–"] * 3
        lines.append(f"| {model} | {about['about']} | {about['nodes']} | {about['elements']:,} | " + " | ".join(facts) + " |")
    return "\n".join(lines)


def bars(kept, threads, names):
    """The gradient by all parameters, as multiples of gradc's time."""
    rows = []
    for model in models(kept, threads):
        cell = kept["cells"][f"{model}/{threads}"]
        values = {name: median(cell[name]["parameters"]) for name in names if name in cell}
        if values.get("gradc"):
            rows.append((model, {name: value / values["gradc"] for name, value in values.items() if value}))
    return rows


def best(cell, mode):
    """gradc's time over the shortest of the others', and whose that is."""
    own = median(cell.get("gradc", {}).get(mode, {}))
    others = {name: median(told.get(mode, {})) for name, told in cell.items() if name != "gradc"}
    others = {name: value for name, value in others.items() if value}
    if not own or not others:
        return None
    name = min(others, key=others.get)
    return own / others[name], name


def mean(ratios):
    return math.exp(statistics.fmean(map(math.log, ratios)))


def summary(kept, threads):
    """gradc's time over the best of the others, in each cell."""
    lines = ["| model | " + " | ".join(MODES.values()) + " |", "|---|" + "---:|" * len(MODES)]
    all_ratios = {mode: [] for mode in MODES}
    for model in models(kept, threads):
        row = []
        for mode in MODES:
            found = best(kept["cells"][f"{model}/{threads}"], mode)
            row.append(f"{found[0]:.2f} of {found[1]}" if found else "–")
            all_ratios[mode] += [found[0]] if found else []
        lines.append(f"| {model} | " + " | ".join(row) + " |")
    told = lambda ratios: f"**{mean(ratios):.2f}**, below 1 in {sum(ratio < 1 for ratio in ratios)} of {len(ratios)}" if ratios else "–"
    lines.append("| **geometric mean** | " + " | ".join(told(ratios) for ratios in all_ratios.values()) + " |")
    return "\n".join(lines)


def ratios(kept, threads):
    """For each model the ratio in each mode, without the other's name."""
    found = {model: {mode: best(kept["cells"][f"{model}/{threads}"], mode) for mode in MODES} for model in models(kept, threads)}
    return [(model, {mode: pair[0] for mode, pair in modes.items() if pair}) for model, modes in found.items()]


CLASSES = {"Matrix products": ("gemm", ""), "Convolutions": ("conv", "Forward"), "Their gradients by the input": ("conv", "InputGradient"),
           "Their gradients by the weights": ("conv", "WeightGradient"), "Loops": ("loops", ""), "Copies": ("copy", "")}


def roof_table(kept, threads):
    """Of the time that each class of kernels takes in a model: what part is the least that the machine's roof allows."""
    lines = ["| model | roof | " + " | ".join(CLASSES) + " | all |", "|---|---:|" + "---:|" * (len(CLASSES) + 1)]
    for model in models(kept, threads):
        told = kept["cells"][f"{model}/{threads}"].get("gradc", {})
        if "kernels" not in told:
            continue
        total = sum(kernel["ms"] for kernel in told["kernels"])
        share = lambda chosen: sum(kernel["ms"] * kernel["roof"] for kernel in chosen) / sum(kernel["ms"] for kernel in chosen)
        row = []
        for kind, name in CLASSES.values():
            chosen = [kernel for kernel in told["kernels"] if kernel["kind"] == kind and kernel["kernel"].startswith(name)]
            time = sum(kernel["ms"] for kernel in chosen) / total
            row.append(f"{share(chosen):.0%} in {time:.0%}" if chosen and time >= 0.005 else "–")
        lines.append(f"| {model} | {told['roof']['gflops']:.0f} GFLOP/s | " + " | ".join(row) + f" | {share(told['kernels']):.0%} |")
    return "\n".join(lines)


def write(kept, document):
    names = contenders(kept)
    all_threads = sorted({int(key.split("/")[1]) for key in kept["cells"]})
    facts = kept["machine"]
    loads = [told["load"] for cell in kept["cells"].values() for told in cell.values() if "load" in told]
    spreads = [spread(told[mode]) for cell in kept["cells"].values() for told in cell.values() for mode in MODES if told.get(mode, {}).get("times")]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    text = [
        "# Performance", "",
        "Written by `bench/run` from measurements; do not edit by hand. [How it measures](../bench/run) stands at its top.", "",
        f"- **Date** {kept['date']}. **Machine** {facts['processor']}{facts.get('vectors', '')}, {facts['cores']} cores, {facts['system']}.",
        f"- **Versions** {kept['gradc']}; Python {facts['python']}, {versions}.",
        f"- **Load** while measuring: {min(loads):.1f} to {max(loads):.1f} runnable processes, of which about one is the measurement. "
        + ("The machine was shared with other work, which takes its part of caches and memory: differences below a quarter mean little."
           if statistics.median(loads) > 2 else "The machine was all but idle."),
        "- **Times** are milliseconds a call. With one thread it is the processor's time (of all threads of the process, on one core), which other work on the "
        "machine disturbs less than the clock on the wall; with more threads it is the clock's median. "
        f"Of {kept['rounds']} rounds of {kept['seconds']:g} s each the median counts. From round to round a contender's time changed by a factor of "
        f"{statistics.median(spreads):.2f} as a rule (median of all cells), {max(spreads):.2f} at most.",
        "- Before it is timed, each result is held to PyTorch's in f64. `wrong` is further away than three times PyTorch's own f32 result "
        "(at least 1e-3 of the norm), `fails` raises an error, `–` cannot do it or was not measured.",
        "- `gradc` is timed by `gradc bench` (a call of the library, in a fresh process each round); the others by a call from Python.",
        "- `torch` is eager; `torch.compile` compiles the loss; `jax` is `jit(value_and_grad)` of the same ONNX graph; `tensorflow` is a `tf.function` of four models written by hand; `tinygrad` compiles the ONNX graph with clang for one thread; "
        "`onnxruntime-training` runs the gradient graph of its own builder (1.19.2, its last release), with two mistakes mended before; `onnxruntime` and `openvino` compute no gradients.",
        "- A step of training is the value, the gradients and the update of all parameters: `torch.optim.AdamW(fused=True)`, for `jax` the same formulas in one compiled function that is given its state.",
        *([f"- **This run**: {kept['note']}"] if kept.get("note") else []), "",
    ]
    for threads in all_threads:
        title = "1 thread, on one core" if threads == 1 else f"{threads} threads"
        text += [f"## {title}", ""]
        timed = [name for name in names if name not in FORWARD_ONLY]
        overview, file = (document.with_name(f"{document.stem}-{threads}{end}.svg") for end in ("-overview", ""))
        overview.write_text(charts.dots(ratios(kept, threads)))
        file.write_text(charts.bars(bars(kept, threads, timed), timed))
        text += [f"![gradc's time over the best of the others, for each model]({overview.name})", "",
                 "gradc's time over the best of the others: below 1 (in the green field) gradc is faster. Each cell names that other.", "",
                 summary(kept, threads), "",
                 f"![Time of value and gradient by all parameters, as multiples of gradc's]({file.name})", "",
                 "Time of value and gradient by all parameters, as multiples of gradc's: above 1 gradc is faster.", ""]
        for mode, title in MODES.items():
            columns = [name for name in names if mode == "forward" or name not in FORWARD_ONLY]
            text += [f"### {title}, ms", "", table(kept, threads, mode, columns), ""]
        text += ["### From nothing to the first gradient by all parameters", "",
                 "A fresh process with empty caches on disk: seconds until the gradient is there, and the most memory it used.", "",
                 first_table(kept, threads, names), ""]
        text += ["### Part of the machine's roof", "",
                 "In the gradient by all parameters, per class of kernels: the least time that the measured peak of arithmetic and bandwidths allow, as a part of "
                 "the time taken, and that class's part of all time. Above 100 % is arithmetic that a fast algorithm saved (Winograd).", "",
                 roof_table(kept, threads), ""]
    text += ["## The models", "", "gradc's figures are for the gradient by all parameters.", "", model_table(kept, all_threads[0]), ""]
    document.write_text("\n".join(text))
