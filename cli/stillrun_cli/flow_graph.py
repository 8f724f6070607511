"""The graph of a flow as text: for Graphviz, and step by step."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["dot_of", "raw_of"]


def dot_of(info: Mapping[str, Any]) -> str:
    """A graph_info as a graph for Graphviz's ``dot``."""
    lines = [f"digraph {json.dumps(info['name'])} {{", "rankdir=LR;"]
    for name, step in info["steps"].items():
        label = f'<<b>{html.escape(name)}</b> | <font point-size="10">{step["type"]}</font>>'
        lines.append(f'{json.dumps(name)} [label={label} fontname="Helvetica" shape="record"];')
    for name, step in info["steps"].items():
        cases = {target: case for case, target in (step.get("switch_cases") or {}).items()}
        for target in step["next"]:
            told = f" [label={json.dumps(cases[target])}]" if target in cases else ""
            lines.append(f"{json.dumps(name)} -> {json.dumps(target)}{told};")
    return "\n".join([*lines, "}"])


def raw_of(info: Mapping[str, Any]) -> Iterator[str]:
    """A graph_info as lines: for each step what leads to it, what follows, and what it splits and joins."""
    steps = info["steps"]
    for name, step in steps.items():
        yield f"[{name} {step['type']} ({step['source_file']} line {step['line']})]"
        yield f"    in_funcs={_listed(other for other, each in steps.items() if name in each['next'])}"
        yield f"    out_funcs={_listed(step['next'])}"
        yield f"    matching_join={step.get('matching_join')}"
        yield f"    decorators={_listed(each['name'] for each in step['decorators'])}"
        yield f"    foreach_param={step.get('foreach_artifact')}"
        yield f"    condition={step.get('condition')}"
        yield f"    -> {_listed(step['next'])}"


def _listed(names: Any) -> str:
    found = ", ".join(names)
    return f"[{found}]" if found else ""
