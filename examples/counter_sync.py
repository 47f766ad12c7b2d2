"""Count page views exactly, however many threads count at once: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/counter_sync.py`.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient

from mongopatterns import Counter, CounterSpec

# Defined once, at import: the collection, and where the number lives in its documents.
VIEWS = CounterSpec("page_views", path="views")


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        # Bound where a connection exists. Threads share the client; a forked process makes its own.
        views = Counter(client[database], VIEWS)

        before = views.value("home")

        # A hundred requests from ten threads. Each call is one round trip and returns a total of its own.
        with ThreadPoolExecutor(max_workers=10) as threads:
            totals = list(threads.map(lambda _: views.add("home"), range(100)))

        print(f"counted {views.value('home') - before}, different totals {len(set(totals))}")

        # Many keys, one round trip; 0 where nothing was counted yet.
        print(f"never viewed: {views.values(['home', 'imprint'])['imprint']}")


if __name__ == "__main__":
    main()
