# What can be imported from `mongopatterns.buffer`: read by type checkers, and by `__init__.py` when one is asked for.

from ._ack_async import AsyncAck
from ._ack_sync import Ack
from ._buffer_async import AsyncWriteBuffer
from ._buffer_plan import DeadLetter
from ._buffer_sync import WriteBuffer
from ._stats import BatchReport, BufferStats

__all__ = ["Ack", "AsyncAck", "AsyncWriteBuffer", "BatchReport", "BufferStats", "DeadLetter", "WriteBuffer"]
