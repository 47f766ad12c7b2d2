"""Documents that many callers create, change or take at once: one command each, on exactly the unique key.

`get_or_create` returns the one document of a key, whoever made it. `upsert` changes it or makes it. `take` deletes it
and gives it to one caller alone. All work on your own documents.
"""

from mongopatterns.documents._documents_async import AsyncDocuments
from mongopatterns.documents._documents_plan import Stored
from mongopatterns.documents._documents_spec import DocumentSpec
from mongopatterns.documents._documents_sync import Documents

__all__ = ["AsyncDocuments", "DocumentSpec", "Documents", "Stored"]
