"""Let the server refuse what a model could not read, and store models as they are: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/validators_sync.py`.
"""

import datetime as dt
import os
from decimal import Decimal
from typing import Annotated, Any, Literal

from bson import Decimal128
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pymongo import MongoClient
from pymongo.errors import WriteError

from mongopatterns import CleanText, SafeName, StoredDecimal, UsageError, Validator, to_document


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sku: SafeName
    amount: Annotated[int, Field(ge=1, le=100)]


class Order(BaseModel):
    number: int = Field(alias="_id")
    total: Annotated[StoredDecimal, Field(ge=0)]
    status: Literal["open", "paid"] = "open"
    note: Annotated[str, CleanText(max_length=100)] = ""
    due: dt.date | None = None
    placed: AwareDatetime
    lines: Annotated[list[Line], Field(min_length=1)]


# Defined once, at import: no connection.
ORDERS = Validator.from_model(Order)

REFUSED = 121  # DocumentValidationFailure
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=dt.timezone.utc)


def refused(orders: Any, change: dict[str, Any]) -> bool:
    try:
        orders.update_one({"_id": 1}, {"$set": change})
    except WriteError as error:
        return error.code == REFUSED
    return False


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    with MongoClient(uri, tz_aware=True) as client:
        db = client[database]
        db.drop_collection("validated_orders")
        orders = db.create_collection("validated_orders", **ORDERS.options)
        print(ORDERS)

        # A note is cleaned before it is stored; a decimal, a date and a model within the model are stored as BSON.
        order = Order(
            _id=1,
            total=Decimal("19.90"),
            note=" ring\n\x00twice ",
            due=dt.date(2026, 4, 1),
            placed=NOON,
            lines=[Line(sku="tea", amount=2)],
        )
        orders.insert_one(to_document(order))
        print("read back:", Order.model_validate(orders.find_one({"_id": 1})) == order)
        print("note:", order.note)

        # Whoever writes: what the model could not read is refused.
        changes = [{"total": 19.9}, {"status": "lost"}, {"placed": "today"}, {"lines": []}, {"lines.0.amount": "2"}]
        print("refused:", [refused(orders, change) for change in changes])
        print("taken:", not refused(orders, {"status": "paid", "total": Decimal128("9.90")}))

        # A datetime without a zone is refused before it is sent.
        try:
            to_document({"placed": NOON.replace(tzinfo=None)})
        except UsageError as error:
            print(str(error).split(",")[0])


main()
