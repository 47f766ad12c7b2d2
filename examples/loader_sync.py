"""Load authors by their ids, in one command, and each once for a request: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/loader_sync.py`.
"""

import os

from bson import ObjectId
from pymongo import MongoClient

from mongopatterns import Loader, LoaderSpec
from mongopatterns.testing import CommandWatcher, n_plus_one_guard

# Defined once, at import: the collection, and what is wanted of its documents.
AUTHORS = LoaderSpec("authors", fields=["name"])


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri, event_listeners=[CommandWatcher()]) as client:
        db = client[database]
        ann, bob = ObjectId(), ObjectId()
        db.authors.insert_many([{"_id": ann, "name": "Ann"}, {"_id": bob, "name": "Bob"}])
        writers = [ann, bob, ann, ObjectId()]
        posts = [{"title": f"post {number}", "author": writers[number % 4]} for number in range(100)]

        # Bound where a connection exists. Threads share the client; a forked process makes its own.
        authors = Loader(db, AUTHORS)

        # The authors of a hundred posts: one command.
        with n_plus_one_guard(client, repeats=1) as guard:
            found = authors.load_many(post["author"] for post in posts)
        lines = [
            f"{post['title']} by {author['name'] if author else 'nobody'}"
            for post, author in zip(posts, found, strict=True)
        ]
        print(f"{len(lines)} posts, commands sent: {sum(guard.counts.values())}")
        print(*lines[:4], sep="\n")

        # Ids in hand: in their order, None where there is nobody.
        found = authors.load_many([bob, ObjectId(), ann])
        print([author and author["name"] for author in found])

        # A scope reads each document once, until it is cleared.
        with authors.scope() as scope:
            scope.load(ann)
            db.authors.update_one({"_id": ann}, {"$set": {"name": "Anna"}})
            before = scope.load(ann)
            scope.clear(ann)
            after = scope.load(ann)
            print(before and before["name"], "->", after and after["name"])


if __name__ == "__main__":
    main()
