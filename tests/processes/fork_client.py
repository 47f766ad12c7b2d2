"""Fork while a shared client is in use, and tell as JSON what the child and the parent meet.

Run by itself, because a test run has threads and clients of its own that a fork would copy.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import ExitStack
from typing import Any

from mongopatterns import Profile, UsageError, shared_client


def enter(uri: str) -> Any:
    return shared_client(uri, profile=Profile.WORKER, app_name="forks")


def in_child(uri: str, name: str, inherited: Any, stack: ExitStack) -> dict[str, Any]:
    """Use what the parent has entered, enter anew, and leave what the parent has entered."""
    warnings.filterwarnings("ignore", message="MongoClient opened before fork")
    told: dict[str, Any] = {}
    try:
        inherited[name].forks.insert_one({"by": "inherited"})
    except UsageError as error:
        told["using"] = str(error)
    with enter(uri) as own:
        told["own"] = own is not inherited
        own[name].forks.insert_one({"by": "child"})
    try:
        stack.close()
    except UsageError as error:
        told["leaving"] = str(error)
    return told


def main(uri: str, name: str) -> int:
    with ExitStack() as stack:
        client = stack.enter_context(enter(uri))
        client[name].forks.insert_one({"by": "parent"})
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.write(write, json.dumps(in_child(uri, name, client, stack)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            told = json.loads(pipe.read())
        failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        client[name].forks.insert_one({"by": "parent, later"})
    print(json.dumps({**told, "parent": os.getpid(), "child": child}))  # noqa: T201  # to the test that started it
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
