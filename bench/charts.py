"""Charts of measurements, as SVG."""

COLOURS = {"gradc": "#c2410c", "torch": "#64748b", "torch.compile": "#94a3b8", "jax": "#0f766e", "tensorflow": "#ca8a04", "tinygrad": "#be185d",
           "onnxruntime-training": "#7c3aed"}
MODES = {"forward": "#0f766e", "input": "#2563eb", "parameters": "#c2410c", "step": "#64748b"}
TITLES = {"forward": "forward", "input": "gradient by the input", "parameters": "gradient by all parameters", "step": "step of training"}
STYLE = "text{font:12px sans-serif;fill:#334155}.small{font-size:8px}"


def picture(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><style>{STYLE}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n')


def bars(rows, names):
    """For each model, a bar for each name: rows of a model and {name: multiple of gradc's time}."""
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
    return picture(left + width + 60, y + 8, [line, *parts])


def dots(rows):
    """For each model, a dot for each mode: rows of a model and {mode: gradc's time over the best other's}."""
    left, width, line = 110, 480, 24
    least, most = 0.2, 1.6
    at = lambda value: left + (min(max(value, least), most) - least) / (most - least) * width
    bottom = 48 + len(rows) * line
    parts = [f'<rect x="{at(least):.1f}" y="36" width="{at(1) - at(least):.1f}" height="{bottom - 36}" fill="#f0fdf4"/>']
    for position, (mode, colour) in enumerate(MODES.items()):
        x = 20 + position * 150
        parts.append(f'<circle cx="{x}" cy="18" r="5" fill="{colour}"/><text x="{x + 10}" y="22">{TITLES[mode]}</text>')
    for tick in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6):
        stroke = "#c2410c" if tick == 1 else "#e2e8f0"
        parts.append(f'<line x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="36" y2="{bottom}" stroke="{stroke}"/>'
                     f'<text x="{at(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for position, (model, values) in enumerate(rows):
        y = 48 + position * line
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{model}</text>')
        for mode, value in values.items():
            beyond = f" ({value:.2f})" if not least <= value <= most else ""
            parts.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="5" fill="{MODES[mode]}" fill-opacity="0.85">'
                         f"<title>{model}, {TITLES[mode]}: {value:.2f}{beyond and ', beyond the chart'}</title></circle>")
    return picture(left + width + 40, bottom + 26, parts)
