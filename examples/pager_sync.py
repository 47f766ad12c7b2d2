"""Show a chat page by page, while others write: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/pager_sync.py`.
"""

import os

from bson import ObjectId
from pymongo import MongoClient

from mongopatterns import InvalidCursor, One, Pager, PagerSpec

# Defined once, at import: the newest page first, and each page from top to bottom.
CHAT = PagerSpec(
    "messages",
    sort=[("sent", -1)],
    limit=4,
    reading_order=True,
    filter_by=["party"],
    fields=["n", "by"],
    joins=[One("people", local="by", foreign="_id", as_="by", fields={"name": 1, "_id": 0})],
)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]
        for index in CHAT.indexes():
            db.messages.create_index(index.keys, **index.options)

        # Ten messages, two in each second: the time alone is no place in an order.
        party, ann, bob = ObjectId(), ObjectId(), ObjectId()
        db.people.insert_many([{"_id": ann, "name": "Ann"}, {"_id": bob, "name": "Bob"}])
        messages = [{"party": party, "n": n, "sent": n // 2, "by": (ann, bob)[n % 2]} for n in range(10)]
        db.messages.insert_many(messages)

        # The secret is the same in all processes, and does not change when they start again.
        secret = os.environ.get("CURSOR_SECRET", "sixteen bytes or more")
        chat = Pager(db, CHAT, secret=secret)

        page = chat.page({"party": party})
        print(", ".join(f"{message['n']} {message['by']['name']}" for message in page))

        # Somebody writes, and somebody deletes the message that the next page would begin behind.
        db.messages.insert_one({"party": party, "n": 10, "sent": 5, "by": ann})
        db.messages.delete_one({"party": party, "n": 6})
        older = chat.page({"party": party}, cursor=page.next)
        print("older:", [message["n"] for message in older])
        newer = chat.page({"party": party}, cursor=older.previous)
        print("back:", [message["n"] for message in newer], "and there is more:", newer.previous is not None)

        # A cursor belongs to its filter.
        try:
            chat.page({"party": ObjectId()}, cursor=page.next)
        except InvalidCursor as error:
            print("refused:", error.reason)

        # Everything, in bounded memory; and whether an index serves it.
        print("all:", [message["n"] for message in chat.stream({"party": party})])
        explanation = chat.explain({"party": party}, cursor=page.next)
        print("served by an index:", explanation.served_by is not None)


if __name__ == "__main__":
    main()
