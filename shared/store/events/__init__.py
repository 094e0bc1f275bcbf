"""Reading what jobs say: replay from the log, then live, without a gap or a repeat.

The log (a Redis stream a job) is the truth; pub/sub carries each event live and names the event before
it. A `Follower` that sees a gap, lags behind its bounded buffer or lives through a lost connection
reads the log again from its cursor, so a dropped message costs latency and never data.

One `EventHub` a process holds one pub/sub connection for any number of followers.
"""

from shared.domain.events import CREATED, START, Event, EventId
from shared.store.events.completion import Completion, CompletionWaiter
from shared.store.events.follower import BUFFER, Follower, follow_all
from shared.store.events.hub import TURN, EventHub
from shared.store.events.log import EventLog

__all__ = [
    "BUFFER",
    "CREATED",
    "START",
    "TURN",
    "Completion",
    "CompletionWaiter",
    "Event",
    "EventHub",
    "EventId",
    "EventLog",
    "Follower",
    "follow_all",
]
