"""Where everything is. It is read when somebody connects, and not at import."""

import os


def uri() -> str:
    return os.environ.get("MONGODB_URI", "mongodb://localhost:27017")


def database() -> str:
    return os.environ.get("MONGODB_DATABASE", "usage_tracker")
