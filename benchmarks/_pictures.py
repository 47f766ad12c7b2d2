"""How a ratio grows, drawn: one picture for each thing of which there is more and more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_INK: Final = "#808080"  # it is read on a light page and on a dark one
_LINES: Final = ("#009688", "#ef6c00", "#5c6bc0", "#c2185b")
_TITLE: Final = "How many times as fast, by the number of {thing}"

Records = Sequence[Mapping[str, Any]]


def of(records: Records) -> Iterator[tuple[str, str]]:
    """Name the pictures of some records, each with its title."""
    for thing in _things(records):
        yield f"growth-{thing}.svg", _TITLE.format(thing=thing)


def draw(records: Records, directory: Path) -> None:
    """Draw them."""
    for (name, title), thing in zip(of(records), _things(records), strict=True):
        _draw([line for line in records if line.get("at", [None])[0] == thing], thing, title, directory / name)


def _things(records: Records) -> list[str]:
    return list(dict.fromkeys(line["at"][0] for line in records if "at" in line))


def _draw(records: Records, thing: str, title: str, path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - a run that writes nothing draws nothing
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415

    colours = {"text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK}
    with mpl.rc_context({**colours, "xtick.color": _INK, "ytick.color": _INK, "svg.hashsalt": thing, "font.size": 9}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log", xlabel=thing, title=title)
        axes.axhline(1, color=_INK, linewidth=0.8, linestyle="--")
        lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for line in records:
            lines.setdefault((line["name"], line["against"]), []).append((line["at"][1], 1 / line["ratio"]))
        for ((name, against), points), colour in zip(lines.items(), _LINES, strict=False):
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"{name}, against {against}")
        axes.set_xticks(sorted({line["at"][1] for line in records}))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.patch.set_alpha(0)
        figure.legend(loc="outside lower left", frameon=False, fontsize=8)
        figure.savefig(path, transparent=True, metadata={"Date": None})
