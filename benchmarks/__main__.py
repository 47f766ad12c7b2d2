"""Measure, print the table, and write the results and the page: `python -m benchmarks`.

Nothing is written unless everything was measured: a part of the rows, or a short run, is printed alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pymongo
from pymongo import MongoClient

from benchmarks import (
    _page,
    _pictures,
    buffer,
    combining,
    counters,
    documents,
    growth,
    hot_paths,
    imports,
    joins,
    limiters,
    membership,
    odm,
    paging,
    reports,
    schema,
    sizes,
)
from benchmarks._rows import QUICK, Effort, Measurable
from mongopatterns.testing import EmbeddedMongo

PATTERNS: Final[tuple[ModuleType, ...]] = (
    counters,
    limiters,
    combining,
    membership,
    documents,
    joins,
    reports,
    paging,
    buffer,
    schema,
    odm,
    growth,
    hot_paths,
    sizes,
    imports,
)

_ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = _ROOT / "benchmarks" / "results.json"
PAGE: Final = _ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure ratios, in one run.")
    parser.add_argument("--uri", help="a server that runs already, instead of one of our own")
    parser.add_argument(
        "--only", metavar="NAME", default="", help="rows of which file, name or peer contains this text"
    )
    parser.add_argument("--rounds", type=_at_least_two, help="rounds per row and driver")
    parser.add_argument("--quick", action="store_true", help="show that it runs; the ratios mean nothing")
    parser.add_argument("--no-write", action="store_true", help="print the table alone")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else Effort()
    if options.rounds:
        effort = dataclasses.replace(effort, rounds=options.rounds)
    if not any(rows_of(pattern, options.only) for pattern in PATTERNS):
        names = "\n  ".join(f"{row.name}: {row.against}" for pattern in PATTERNS for row in pattern.ROWS)
        parser.error(f"no row is called {options.only!r}; there are:\n  {names}")
    results = run(options.uri, options.only, effort)
    print(_page.table([line for pattern in results["patterns"] for line in pattern["results"]]))
    if not (options.no_write or options.quick or options.only):
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(_page.page(results), encoding="utf-8")
        for pattern in results["patterns"]:
            _pictures.draw(pattern["results"], PAGE.parent / "assets")


def run(uri: str | None, only: str, effort: Effort) -> dict[str, Any]:
    """Measure every row of which file, name or peer contains `only`."""
    with EmbeddedMongo(members=1, uri=uri) as server:
        patterns = []
        for pattern in PATTERNS:
            records = []
            for row in rows_of(pattern, only):
                print(f"{row.name} ...", file=sys.stderr, flush=True)
                records += [_page.record(result) for result in row.measure(server.uri, effort)]
            if records:
                patterns.append(_described(pattern, records))
        return {"machine": machine(server.uri), "rounds": effort.rounds, "patterns": patterns}


def machine(uri: str) -> dict[str, Any]:
    """Tell what the figures depend on, and nothing that names the machine."""
    with MongoClient[dict[str, Any]](uri) as client:
        hello = client.admin.command("hello")
        server = client.server_info()["version"]
    if "setName" in hello:
        deployment = f"a replica set of {len(hello['hosts'])}"
    else:
        deployment = "a sharded cluster" if hello.get("msg") == "isdbgrid" else "a standalone server"
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "pymongo": pymongo.version,
        "mongodb": server,
        "deployment": deployment,
        "limits": version("limits"),
        "motor": version("motor"),
        "beanie": version("beanie"),
    }


def _described(pattern: ModuleType, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Put a file's own words beside its results; they are the page's, too."""
    title, about = (pattern.__doc__ or "").strip().split("\n\n", 1)
    return {
        "title": title.rstrip("."),
        "about": about,
        "source": f"benchmarks/{file_of(pattern)}.py",
        "results": records,
    }


def rows_of(pattern: ModuleType, only: str) -> list[Measurable]:
    return [row for row in pattern.ROWS if only.lower() in f"{file_of(pattern)}: {row.name}: {row.against}".lower()]


def file_of(pattern: ModuleType) -> str:
    return pattern.__name__.rpartition(".")[2]


def _at_least_two(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("there is no spread of fewer than 2")
    return number


if __name__ == "__main__":
    main()
