"""Show the questions of a book with a user's answers, tags and counts, and no query per question: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/joins_sync.py`.
"""

import os

from bson import ObjectId
from pymongo import MongoClient

from mongopatterns import CountOf, Join, JoinSpec, Many, One, Param, SumOf, ValueOf

# Defined once, at import: what belongs to a question. Responses keep the question's id as text.
QUESTIONS = JoinSpec(
    "questions",
    joins=[
        One(
            "responses",
            as_="response",
            local="_id",
            foreign="question_id",
            local_as="string",
            where={"user_id": Param("user")},
            fields=["status", "points"],
        ),
        Many("tags", as_="tags", local="tag_ids", foreign="_id", sort=[("label", 1)]),
        CountOf("responses", as_="answers", local="_id", foreign="question_id", local_as="string"),
        SumOf("responses", as_="points", local="_id", foreign="question_id", local_as="string", amount="points"),
    ],
    computed={"status": ValueOf("response.status", default="not_answered")},
)


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri) as client:
        db = client[database]
        for collection, indexes in QUESTIONS.indexes().items():
            for index in indexes:
                db[collection].create_index(index.keys, **index.options)

        # Authoring: a book of six questions, each with two of three tags, and what two users have answered.
        book = ObjectId()
        tags = [{"_id": ObjectId(), "label": label} for label in ("verbs", "easy", "exam")]
        questions = [
            {"_id": ObjectId(), "book": book, "order": n, "tag_ids": [tags[n % 3]["_id"], tags[(n + 1) % 3]["_id"]]}
            for n in range(6)
        ]
        responses = [
            {"question_id": str(questions[n]["_id"]), "user_id": user, "status": status, "points": points}
            for n, user, status, points in [
                (0, "ann", "done", 3),
                (0, "bob", "done", 2),
                (1, "ann", "draft", 0),
                (4, "bob", "done", 5),
            ]
        ]
        db.tags.insert_many(tags)
        db.questions.insert_many(questions)
        db.responses.insert_many(responses)

        # Bound where a connection exists. Make it once, and share it: it remembers the indexes that it has seen.
        join = Join(db, QUESTIONS)

        # Five commands for a page of any length: the questions, and one for each join.
        for row in join.find({"book": book}, params={"user": "ann"}, sort=[("order", 1)], limit=3):
            labels = ", ".join(tag["label"] for tag in row["tags"])
            print(f"{row['order']}: {row['status']}, {labels}; {row['answers']} answers, {row['points']} points")

        # A page of what Ann has not answered, and how many there are in all: the server filters the finished rows.
        unanswered = {"status": "not_answered"}
        page = join.find(
            {"book": book}, params={"user": "ann"}, joined=unanswered, sort=[("order", 1)], limit=2, fields=["order"]
        )
        total = join.count({"book": book}, params={"user": "ann"}, joined=unanswered)
        print(f"not answered: {[row['order'] for row in page]} of {total}")

        # What would be done, and why.
        explanation = join.explain({"book": book}, params={"user": "ann"}, joined={"answers": {"$gte": 2}})
        for choice in explanation.joins:
            print(f"{choice.name}: {choice.strategy}, {choice.why}")


if __name__ == "__main__":
    main()
