"""Run an application of this folder: `python -m examples live_quotas`.

With `MONGODB_URI` it works on that server. Without it a real one is started for as long as the application runs.
"""

import importlib
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from mongopatterns.testing import EmbeddedMongo

APPLICATIONS = sorted(path.parent.name for path in Path(__file__).parent.glob("*/main.py"))


def run(name: str) -> None:
    """Serve the application, or run it to its end if it is none of the web."""
    with ExitStack() as stack:
        if "MONGODB_URI" not in os.environ:
            os.environ["MONGODB_URI"] = stack.enter_context(EmbeddedMongo(members=1)).uri
        main = importlib.import_module(f"examples.{name}.main")
        if hasattr(main, "app"):
            uvicorn.run(main.app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
        else:
            main.main()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in APPLICATIONS:  # noqa: PLR2004 - the program and one name
        sys.exit(f"usage: python -m examples {{{','.join(APPLICATIONS)}}}")
    run(sys.argv[1])
