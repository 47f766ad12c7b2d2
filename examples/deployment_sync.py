"""Check the deployment at the start, answer health probes, watch connections and slow commands: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/deployment_sync.py`.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pymongo import MongoClient

from mongopatterns import Deployment, DeploymentError, Health, PoolMonitor, Requirements, SlowQueries

# What this application needs. What is lacking is an error at the start, and not at the first order.
NEEDS = Requirements(transactions=True, min_version=(5, 0), connection_headroom=20, max_clock_difference=30)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")

    # Listeners are given when a client is made: never later.
    pool = PoolMonitor(budget=10, on_threshold=lambda alert: print(f"{alert.threshold:.0%} of the pool is in use"))
    slow = SlowQueries(threshold=0.5)
    with MongoClient[dict[str, Any]](uri, maxPoolSize=10, event_listeners=[pool, slow]) as client:
        deployment = Deployment(client)
        report = deployment.check(NEEDS, timeout=10)
        print(f"transactions: {report.transactions}, a majority answers: {report.majority}")
        print(f"kind: {report.kind.value}, findings: {len(report.findings)}")

        try:
            deployment.check(Requirements(min_members=100, tls=True))
        except DeploymentError as error:
            print(f"lacking: {', '.join(finding.code for finding in error.findings)}")

        # Two endpoints: liveness asks nothing of the server, readiness is one ping.
        health = Health(client)
        print(f"alive: {bool(health.live())}, {health.ready(timeout=5).reason}")

        # Eight slow calls at once in a pool of ten.
        users = client[database]["users"]
        users.update_one({"_id": "ann"}, {"$set": {"name": "Ann"}}, upsert=True)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(users.find_one, [{"_id": "ann", "$where": "sleep(600) || true"}] * 8))
        (server,) = pool.snapshot().servers
        print(f"in use at most: {server.most_in_use}, now: {server.in_use}, refused: {server.failed.get('timeout', 0)}")
        for shape in slow.snapshot().shapes[:1]:
            print(f"slow, {shape.count} times: {shape.shape.partition('.')[2]}")


if __name__ == "__main__":
    main()
