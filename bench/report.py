"""Tables and a chart of measurements."""

import statistics

MODES = {"forward": "Forward", "input": "Value and gradient by the input", "parameters": "Value and gradient by all parameters",
         "step": "A step of training with AdamW"}
ORDER = ["gradc", "torch", "torch.compile", "jax", "tensorflow", "onnxruntime-training", "onnxruntime", "openvino"]
FORWARD_ONLY = {"onnxruntime", "openvino"}
COLOURS = {"gradc": "#c2410c", "torch": "#64748b", "torch.compile": "#94a3b8", "jax": "#0f766e", "tensorflow": "#ca8a04",
           "onnxruntime-training": "#7c3aed"}


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
    lines = ["| model | " + " | ".join(names) + " | best other / gradc |", "|---|" + "---:|" * (len(names) + 1)]
    for model in models(kept, threads):
        cell = kept["cells"][f"{model}/{threads}"]
        values = {name: median(cell[name].get(mode, {})) for name in names if name in cell}
        others = [value for name, value in values.items() if name != "gradc" and value]
        ratio = f"{min(others) / values['gradc']:.2f}" if others and values.get("gradc") else "–"
        row = [shown(cell[name].get(mode, {})) if name in cell else "–" for name in names]
        lines.append(f"| {model} | " + " | ".join(row) + f" | {ratio} |")
    return "\n".join(lines)


def first_table(kept, threads, names):
    names = [name for name in names if name not in FORWARD_ONLY]
    lines = ["| model | " + " | ".join(f"{name} s | MiB" for name in names) + " |", "|---|" + "---:|" * (2 * len(names))]
    for model in models(kept, threads):
        row = []
        for name in names:
            told = kept["cells"][f"{model}/{threads}"].get(name, {}).get("first") or {}
            row += [f"{told['seconds']:.2f}", f"{told['bytes'] / 2**20:.0f}"] if told else ["–", "–"]
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


def chart(kept, threads, names):
    """Bars of the gradient by all parameters, as multiples of gradc's time."""
    names = [name for name in names if name not in FORWARD_ONLY]
    rows = []
    for model in models(kept, threads):
        cell = kept["cells"][f"{model}/{threads}"]
        values = {name: median(cell[name]["parameters"]) for name in names if name in cell}
        if values.get("gradc"):
            rows.append((model, {name: value / values["gradc"] for name, value in values.items() if value}))
    left, width, bar, most = 110, 520, 9, 4.0
    parts, y = [], 46
    for position, name in enumerate(names):
        x = 10 + position * 100
        parts.append(f'<rect x="{x}" y="14" width="10" height="10" fill="{COLOURS[name]}"/><text x="{x + 15}" y="23">{name}</text>')
    for model, values in rows:
        parts.append(f'<text x="{left - 8}" y="{y + len(values) * bar / 2 + 4}" text-anchor="end">{model}</text>')
        for name, value in values.items():
            length = min(value, most) / most * width
            text = f"{value:.2f}" + ("" if value <= most else " →")
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 1}" fill="{COLOURS[name]}"/>'
                         f'<text class="small" x="{left + length + 4:.1f}" y="{y + bar - 2}">{text}</text>')
            y += bar
        y += 8
    unit = left + width / most
    line = f'<line x1="{unit}" x2="{unit}" y1="36" y2="{y}" stroke="#c2410c" stroke-dasharray="3 3"/>'
    style = "text{font:12px sans-serif;fill:#334155}.small{font-size:8px}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {y + 8}"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/>{line}{"".join(parts)}</svg>\n')


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
        f"- **Date** {kept['date']}. **Machine** {facts['processor']}, {facts['cores']} cores, {facts['system']}.",
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
        "- `torch` is eager; `torch.compile` compiles the loss; `jax` is `jit(value_and_grad)` of the same ONNX graph; `tensorflow` is a `tf.function` of four models written by hand; "
        "`onnxruntime-training` runs the gradient graph of its own builder (1.19.2, its last release), with two mistakes mended before; `onnxruntime` and `openvino` compute no gradients.",
        "- A step of training is the value, the gradients and the update of all parameters: `torch.optim.AdamW(fused=True)`, for `jax` the same formulas in one compiled function that is given its state.",
        *([f"- **This run**: {kept['note']}"] if kept.get("note") else []), "",
    ]
    for threads in all_threads:
        title = "1 thread, on one core" if threads == 1 else f"{threads} threads"
        text += [f"## {title}", ""]
        file = document.with_name(f"performance-{threads}.svg")
        file.write_text(chart(kept, threads, names))
        text += [f"![Time of value and gradient by all parameters, as multiples of gradc's]({file.name})", "",
                 "Time of value and gradient by all parameters, as multiples of gradc's: above 1 gradc is faster.", ""]
        for mode, title in MODES.items():
            columns = [name for name in names if mode == "forward" or name not in FORWARD_ONLY]
            text += [f"### {title}, ms", "", table(kept, threads, mode, columns), ""]
        text += ["### From nothing to the first gradient by all parameters", "",
                 "A fresh process with empty caches on disk: seconds until the gradient is there, and the most memory it used.", "",
                 first_table(kept, threads, names), ""]
    text += ["## The models", "", "gradc's figures are for the gradient by all parameters.", "", model_table(kept, all_threads[0]), ""]
    document.write_text("\n".join(text))
