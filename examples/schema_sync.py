"""Bring a database to what its schema says, from a dirty one: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/schema_sync.py`.
"""

import os
from datetime import timedelta

from pymongo import MongoClient

from mongopatterns import (
    CollectionSpec,
    Index,
    QuotaSpec,
    Schema,
    SchemaDrift,
    SchemaProgress,
    SchemaSpec,
    TimeSeries,
    Validator,
    Window,
)

MINUTES = QuotaSpec("schema_users", path="quota", key_field="user_id", windows=[Window.hour(60)])

# Defined once, at import: what the database should hold. The spec of a pattern stands for the indexes that it needs.
SCHEMA = SchemaSpec(
    [
        CollectionSpec(
            "schema_users",
            indexes=[Index("mail", unique=True), Index.ttl("expires_at", after=timedelta(days=30))],
            validator=Validator({"$jsonSchema": {"bsonType": "object", "required": ["mail"]}}),
        ),
        CollectionSpec("schema_views", timeseries=TimeSeries("at", meta="page", expire_after=timedelta(days=90))),
        MINUTES,
    ]
)


def show(progress: SchemaProgress) -> None:
    if progress.state == "done":
        print(f"{progress.number}/{progress.total} {progress.change.kind.value}: {progress.change.what}")


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]
        for name in ("schema_users", "schema_views"):
            db.drop_collection(name)

        # A database as one finds it: an index that is not unique, an address twice, an index that nobody knows.
        db.schema_users.create_index("mail")
        db.schema_users.create_index("nickname")
        users = [{"user_id": number, "mail": f"m{number // 2}", "seen": number} for number in range(4)]
        db.schema_users.insert_many(users)

        # Planning changes nothing, and says what stands in the way.
        schema = Schema(db, SCHEMA)
        plan = schema.plan()
        print(f"changes: {len(plan.changes)}, blocked: {[change.what for change in plan.blocked]}")
        try:
            schema.apply(plan)
        except SchemaDrift as drift:
            print(f"nothing was done: {len(drift.plan.blocked)} change is blocked")

        # Of each address the user who was seen last stays.
        merged = schema.merge_duplicates("schema_users", Index("mail", unique=True), keep=[("seen", -1)])
        print(f"removed: {sorted(user['user_id'] for user in merged.removed)}")

        # Now it can be done. At every start, in every process: what is done is not done again.
        schema.apply(on_progress=show)
        print(f"left to change: {len((schema.plan()).changes)}")
        print(f"found: {[finding.code for finding in (schema.verify()).findings]}")


if __name__ == "__main__":
    main()
