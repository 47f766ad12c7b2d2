"""Let the callers of one hot key share round trips: PyMongo's async API.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/combining_async.py`.

With Motor one line differs, where the client is made:
`client = motor.motor_asyncio.AsyncIOMotorClient(uri, event_listeners=[writes])`, which is closed by `client.close()`.
"""

import asyncio
import os
import uuid

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from mongopatterns import AsyncQuota, Decision, OutcomeUnknown, QuotaSpec, Window

# Defined once, at import. Whether callers share is not said here, but at the binding.
TICKETS = QuotaSpec("shows", path="tickets", windows=[Window.day(100)])


class Writes(CommandListener):
    """Count what is sent, to show it."""

    sent = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.sent += event.command_name == "findAndModify"

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


async def sell(tickets: AsyncQuota, show: str) -> Decision | None:
    """Sell one ticket; None if nobody can tell whether it was sold."""
    try:
        # `timeout` counts the waiting for a turn as well; if it runs out there, that is `NotSent`: nothing was charged.
        return await tickets.consume(show, timeout=30)
    except OutcomeUnknown:
        return None  # it was sent, and the answer never came; the driver's error is its cause


async def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    writes = Writes()
    async with AsyncMongoClient(uri, event_listeners=[writes]) as client:
        show = f"show-{uuid.uuid4().hex[:8]}"

        # At the end of the block, those under way are waited for. Close the binding before its client.
        async with AsyncQuota(client[database], TICKETS, combine=True) as tickets:
            # Three hundred buyers at once: each is decided on in its place, and has an answer of its own.
            answers = await asyncio.gather(*(sell(tickets, show) for _ in range(300)))

        sold = [answer for answer in answers if answer]
        print(f"sold {len(sold)} of {len(answers)}, different remainders {len({a.remaining['day'] for a in sold})}")
        print(f"a tenth as many commands, or fewer: {writes.sent <= len(answers) // 10}")


if __name__ == "__main__":
    asyncio.run(main())
