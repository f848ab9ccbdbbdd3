"""The dashboard of configs/grafana by the models of Grafana's own SDK (grafana-foundation-sdk): nothing is in
it that they do not know, every value is of the type they want, and panels do not overlap. What its
expressions give is prometheus.py's matter.

    grafana.py
"""

import enum
import inspect
import itertools
import json
import pathlib
import typing

try:
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard
except ImportError:
    print("skipped: grafana-foundation-sdk is not installed")
    raise SystemExit(0)

DASHBOARD = pathlib.Path("configs/grafana/sfm-stream.json")
# Grafana writes it beside the query; the SDK leaves it out.
UNKNOWN = {"$.templating.list[1].definition"}


def lost(ours, theirs, path="$"):
    """What is not the same after it went through the models; they may add to it."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from lost(value, theirs[key], f"{path}.{key}") if key in theirs else [f"{path}.{key}"]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, pair in enumerate(zip(ours, theirs)):
            yield from lost(*pair, f"{path}[{i}]")
    elif ours != theirs:
        yield path


def mistyped(value, hint, path="$"):
    """Where the models hold what they are not annotated for: they read without looking."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        fits = any(not list(mistyped(value, part)) for part in parts)
        yield from [] if fits else [path]
    elif origin is list and isinstance(value, list):
        for i, item in enumerate(value):
            yield from mistyped(item, parts[0], f"{path}[{i}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from mistyped(item, parts[1], f"{path}.{key}")
    elif origin is typing.Literal:
        yield from [] if value in parts else [path]
    elif inspect.isclass(hint) and issubclass(hint, enum.Enum):
        yield from [] if value in [member.value for member in hint] else [path]
    elif hint in (int, float):
        yield from [] if isinstance(value, int | hint) and not isinstance(value, bool) else [path]
    elif hint in (typing.Any, object):
        # Options of panels and queries, whose models plug-ins bring.
        if hasattr(value, "from_json"):
            yield from mistyped(value, type(value), path)
    elif not (inspect.isclass(hint) and isinstance(value, hint)):
        yield path
    elif hasattr(hint, "from_json"):
        for name, part in typing.get_type_hints(type(value)).items():
            yield from mistyped(getattr(value, name), part, f"{path}.{name}")


def judged(content):
    """All that is wrong with a dashboard."""
    dashboard = Dashboard.from_json(content)
    theirs = json.loads(JSONEncoder().encode(dashboard))
    return (set(lost(content, theirs)) - UNKNOWN) | set(mistyped(dashboard, Dashboard))


def overlap(a, b):
    return a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def main():
    plugins.register_default_plugins()
    text = DASHBOARD.read_text()
    wrong = judged(json.loads(text))
    assert not wrong, wrong
    panels = json.loads(text)["panels"]
    places = [panel["gridPos"] for panel in panels]
    assert all(0 <= place["x"] and place["x"] + place["w"] <= 24 for place in places)
    assert not any(overlap(a, b) for a, b in itertools.combinations(places, 2))
    # To see that the judge judges.
    stat = next(i for i, panel in enumerate(panels) if panel["type"] == "stat")
    for part, value in [("gridPos", {"x": "left"}), ("options", {"graphMode": 3}), ("nonsense", 1), ("title", 7),
                        ("fieldConfig", {"defaults": {"thresholds": {"mode": "relative", "steps": []}}, "overrides": []})]:
        broken = json.loads(text)
        broken["panels"][stat][part] = value
        assert judged(broken), part
    print(f"{len(panels)} panels as Grafana's models have them")


if __name__ == "__main__":
    main()
