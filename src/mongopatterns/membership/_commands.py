"""The frame of a call that decides on a part of the caller's document, in one guarded write. Pure.

Nothing of ours is stored beside what the caller gives, so the verdict cannot be read from a stored token. It is
told by the document *before* the write, which the reply is projected from: what is written depends on that image,
the arguments and the server's time, and on nothing else, so that the same expressions tell what was done. A refused
call leaves the document as it was, and the server logs no write.

When the driver repeats a write whose answer was lost, the server answers with the stored image as it is, without the
projection. Then one more command, a read, has the server tell the same of that image: `again`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from bson import encode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mongopatterns.commands import REPLY, Aggregate, FindOneAndUpdate, created, holders_of
from mongopatterns.errors import StateError
from mongopatterns.expressions import ANY_UUID, key_filter, key_value, literal
from mongopatterns.specs import KeyedSpec

S = TypeVar("S", bound=KeyedSpec)

LARGEST_DOCUMENT = 16 * 1024 * 1024
"""What the server stores at most, in bytes."""


class TellingPlan(Generic[S]):
    """Build the frame of a write that is told by the image before it, and of the read that repeats the telling."""

    kind: str
    """What the pattern is called in comments and messages."""

    def __init__(self, spec: S, collection: str, codec_options: CodecOptions[Any] = ANY_UUID) -> None:
        self.spec: S = spec
        self.collection = collection
        self._codec_options = codec_options

    def encoded(self, document: dict[str, Any]) -> RawBSONDocument:
        """Encode what never changes."""
        return RawBSONDocument(encode(document, codec_options=self._codec_options))

    def key(self, key: object) -> Any:
        """Check a key, and return it as it is stored."""
        return key_value("key", key, self.spec.key_type)

    def update(self, document: Any) -> list[RawBSONDocument]:
        """Build the update that puts the expression `document` in the place of the caller's."""
        return [self.encoded({"$replaceWith": document})]

    def projection(self, told: Mapping[str, Any]) -> RawBSONDocument:
        """Build the projection of a reply: what is told of the image, and nothing else."""
        return self.encoded({"_id": 0, REPLY: dict(told)})

    def guarded(
        self,
        call: str,
        key: Any,
        update: Sequence[RawBSONDocument],
        projection: RawBSONDocument,
        let: dict[str, Any],
        *,
        upsert: bool = False,
    ) -> FindOneAndUpdate:
        """Build one guarded write on the document of a checked key."""
        return FindOneAndUpdate(
            filter=key_filter(self.spec.key_field, key),
            update=update,
            projection=projection,
            upsert=upsert,
            comment=f"mongopatterns.{self.kind}.{call}",
            let=let,
            before=True,
        )

    def again(self, command: FindOneAndUpdate, reply: Mapping[str, Any] | None) -> Aggregate | None:
        """Build the read that tells of the stored image, if that is what came back."""
        if reply is None or "_id" not in reply:  # (a projected reply has none)
            return None
        return self.telling(command, reply, [{"$replaceWith": "$$image"}, {"$project": command.projection}])

    def telling(
        self, command: FindOneAndUpdate, image: Mapping[str, Any], stages: Sequence[Any], *, kept: str = "_id"
    ) -> Aggregate:
        """Build the read that tells what a write has done.

        Args:
            command: The write.
            image: The document that it began with, for the variable `image`.
            stages: What tells it. They begin with one document, even should the caller's be gone by now.
            kept: The path of what is stored now that they find, in the one item of `found`, if there is any.
        """
        pipeline: list[Any] = [
            {"$match": command.filter},
            {"$facet": {"found": [{"$limit": 1}, {"$project": {kept: 1}}]}},
            *stages,
        ]
        return Aggregate(pipeline, {**(command.let or {}), "image": literal(image)}, command.comment)

    @property
    def document(self) -> Any:
        """Build the document of a call: one that is being made begins with what the spec's `create` says."""
        return created(self.spec) if self.spec.create else "$$ROOT"

    def kinds(self, *paths: str, above: Sequence[str] = (), of: str = "$$doc") -> list[dict[str, Any]]:
        """List the types of what the paths lead through and of what stands there, for `check_kinds`.

        Args:
            paths: Dotted paths.
            above: Further paths of which only that matters which they lead through.
            of: The document.
        """
        return [{"$type": f"{of}.{place}"} for place in _places(paths, above)]

    def sound(self, kind: str, *paths: str, above: Sequence[str] = (), of: str = "$$doc") -> list[dict[str, Any]]:
        """List the checks that the paths hold a value of that type or nothing, and lead through documents."""
        checks = []
        for place in _places(paths, above):
            wanted = kind if place in paths else "object"
            checks.append({"$in": [{"$type": f"{of}.{place}"}, literal(["missing", "null", wanted])]})
        return checks

    def check_kinds(self, key: Any, kinds: Sequence[str], kind: str, *paths: str, above: Sequence[str] = ()) -> None:
        """Raise if the server has told types that `sound` refuses.

        Raises:
            StateError: If it has.
        """
        for place, found in zip(_places(paths, above), kinds, strict=True):
            wanted = kind if place in paths else "object"
            if found not in ("missing", "null", wanted):
                named = "a document" if wanted == "object" else f"an {wanted}"
                raise StateError(self.collection, key, place, f"expected {named}, found a value of type {found}")


def _places(paths: Sequence[str], above: Sequence[str]) -> list[str]:
    """List the paths and all that they lead through, each once."""
    through = [place for path in (*paths, *above) for place in holders_of(path)]
    return list(dict.fromkeys((*through, *paths)))
