"""Let the callers of one hot key share round trips: PyMongo.

Run it with `MONGODB_URI=mongodb://localhost:27017 python examples/combining_sync.py`.
"""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from mongopatterns import Decision, OutcomeUnknown, Quota, QuotaSpec, Window

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


def sell(tickets: Quota, show: str) -> Decision | None:
    """Sell one ticket; None if nobody can tell whether it was sold."""
    try:
        # `timeout` counts the waiting for a turn as well; if it runs out there, that is `NotSent`: nothing was charged.
        return tickets.consume(show, timeout=30)
    except OutcomeUnknown:
        return None  # it was sent, and the answer never came; the driver's error is its cause


def main() -> None:
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    database = os.environ.get("MONGODB_DATABASE", "mongopatterns_examples")
    writes = Writes()
    with MongoClient(uri, event_listeners=[writes]) as client:
        show = f"show-{uuid.uuid4().hex[:8]}"

        # Three hundred buyers in thirty threads: each is decided on in its place, and has an answer of its own.
        tickets = Quota(client[database], TICKETS, combine=True)
        with ThreadPoolExecutor(max_workers=30) as threads:
            answers = list(threads.map(lambda _: sell(tickets, show), range(300)))

        # Those under way are waited for. Close the binding before its client.
        tickets.close()

        sold = [answer for answer in answers if answer]
        print(f"sold {len(sold)} of {len(answers)}, different remainders {len({a.remaining['day'] for a in sold})}")
        print(f"half as many commands, or fewer: {writes.sent <= len(answers) // 2}")


if __name__ == "__main__":
    main()
