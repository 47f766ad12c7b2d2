"""The mock, with the options of a collection and the comments on commands that it does not take by itself."""

from typing import Any

from bson import CodecOptions
from mongomock_motor import AsyncMongoMockClient, AsyncMongoMockCollection, AsyncMongoMockDatabase


class MockCollection(AsyncMongoMockCollection):
    """A collection that keeps codec options, and leaves all other options and comments out."""

    codec_options: Any = CodecOptions(tz_aware=True)

    def with_options(self, codec_options: Any = None, **_: Any) -> Any:
        """Return the same collection with other codec options."""
        same = self.database.get_collection(self.name)
        same.codec_options = codec_options or self.codec_options
        return same


def _without_comment(method: Any) -> Any:
    def call(self: Any, *args: Any, comment: Any = None, **options: Any) -> Any:
        del comment
        return method(self, *args, **options)

    return call


for name in ("find", "find_one", "insert_one", "insert_many", "update_one", "update_many", "delete_many", "bulk_write"):
    setattr(MockCollection, name, _without_comment(getattr(AsyncMongoMockCollection, name)))


class MockDatabase(AsyncMongoMockDatabase):
    """A database of such collections."""

    def get_collection(self, name: str, **_: Any) -> MockCollection:
        """Return a collection."""
        return MockCollection(self, self.delegate.get_collection(name))


class MockClient(AsyncMongoMockClient):
    """A client of such databases, whose dates have a zone."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"tz_aware": True, **options})

    def get_database(self, *args: Any, **options: Any) -> MockDatabase:
        """Return a database."""
        return MockDatabase(self, super().get_database(*args, **options).delegate)
