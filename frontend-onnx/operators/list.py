"""Lists the operators that ONNX defines: python list.py > onnx.tsv, with onnx 1.23.2 (pip install onnx==1.23.2), opset 28.

One line for each operator: its domain (- for ai.onnx), its name, the opsets that changed it (d before those that
deprecated it), whether it is a function of other operators, whether ONNX marks an input as differentiable, and the
element types that its latest version takes or yields.
"""

import re

import onnx.defs

operators = {}
for schema in onnx.defs.get_all_schemas_with_history():
    operators.setdefault((schema.domain, schema.name), []).append(schema)

print(f"# onnx {onnx.__version__}, opset {onnx.defs.onnx_opset_version()}, written by list.py")
print("# domain\tname\topsets\tfunction\tdifferentiable\ttypes")
for (domain, name), schemas in sorted(operators.items()):
    schemas.sort(key=lambda schema: schema.since_version)
    latest = schemas[-1]
    versions = ",".join(("d" if s.deprecated else "") + str(s.since_version) for s in schemas)
    is_function = latest.has_function or latest.has_context_dependent_function
    marked = any(
        p.differentiation_category == onnx.defs.OpSchema.DifferentiationCategory.Differentiable for p in latest.inputs
    )
    allowed = {t for c in latest.type_constraints for t in c.allowed_type_strs}
    allowed |= {t for p in [*latest.inputs, *latest.outputs] for t in p.types}
    elements = sorted({e for t in allowed for e in re.findall(r"^tensor\((\w+)\)$", t)})
    others = sorted({k for t in allowed for k in re.findall(r"^(seq|optional|map|sparse_tensor)\(", t)})
    columns = [domain or "-", name, versions, "function" if is_function else "-", "yes" if marked else "-"]
    print("\t".join([*columns, " ".join(elements + others) or "-"]))
