"""What the views of one app share: settings, keys, store, event hub, doorbell, readers, tickets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from flask import Flask

from api.state.cache import Cache
from api.state.file_storage import LoopStorage
from api.state.grammars import Grammars
from api.state.history import History
from api.state.key_cache import KeyCache
from api.state.limit_plan import Limits
from api.state.notifier import Notifier
from api.state.prometheus import Prometheus
from api.state.prompt_bounds import KnownBounds
from api.state.readers import Readers
from api.state.sampling_defaults import SamplingDefaults
from api.state.slots import Slots
from api.state.uploads import Uploads
from api.tickets import Tickets
from shared.domain.models.catalog import Catalog
from shared.domain.records import Record
from shared.domain.states import JobState
from shared.hooks import Observers
from shared.settings import Settings
from shared.store.audit import AuditLog
from shared.store.batches import Batches
from shared.store.events import START, CompletionWaiter, EventHub, EventId, Follower
from shared.store.files import Files
from shared.store.jobs import JobStore
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.outbox import Outbox
from shared.webhooks.policy import UrlPolicy
from shared.webhooks.secrets import WebhookSecrets

EXTENSION = "truthgpt"


@dataclass
class Lifecycle:
    """Whether this process still takes work. The server that runs the app says so."""

    alive: Callable[[], bool] = lambda: True

    @property
    def draining(self) -> bool:
        """Held answers and streams end soon after this turns true; their clients come back elsewhere."""
        return not self.alive()


@dataclass(frozen=True, slots=True)
class Services:
    """One an app, at `app.extensions[EXTENSION]`."""

    settings: Settings
    catalog: Catalog
    token: str
    keys: KeyCache
    store: JobStore
    hub: EventHub
    notifier: Notifier
    readers: Readers
    outbox: Outbox
    webhook_urls: UrlPolicy
    webhook_secrets: WebhookSecrets
    webhook_endpoints: Endpoints
    tickets: Tickets
    limits: Limits
    cache: Cache
    prompt_bounds: KnownBounds
    sampling_defaults: SamplingDefaults
    history: History
    prometheus: Prometheus | None
    files: Files
    batches: Batches
    storage: LoopStorage
    audit: AuditLog
    uploads: Uploads = field(default_factory=Uploads)
    grammars: Grammars = field(default_factory=Grammars)
    slots: Slots = field(default_factory=Slots)
    observers: Observers = field(default_factory=Observers)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    closers: list[Callable[[], None]] = field(default_factory=list)
    """Called last when the process ends."""

    def follow(self, job_id: str, after: EventId = START) -> Follower:
        """Follow a job. Starts the hub at the first call, so its thread lives in the serving process."""
        self.hub.start()
        return self.hub.follow(job_id, after)

    def show_events(self, record: Record) -> None:
        """Have a job's events told from now on, should its maker wait for its end alone.

        For who is about to follow a job that is there already. Raises `StoreUnavailable`.
        """
        if "home" in record.fields and not record.terminal:
            self.store.log_events(record.id)

    def hears(self, timeout: float) -> bool:
        """Whether Redis can be heard, now or within `timeout` seconds."""
        self.hub.start()
        return self.hub.hears(timeout)

    def expect(self, job_id: str) -> CompletionWaiter:
        """Wait for the end of a job that is about to be made. Raises `StoreUnavailable`."""
        self.hub.start()
        return self.hub.expect(job_id)

    def remember(self, record: Record) -> None:
        """Keep what a job brought for others that ask the same, if it may be kept."""
        if "share" in record.fields and record.state is JobState.SUCCEEDED:
            self.cache.remember(record, self.catalog.get(record.fields["model"]))

    def close(self) -> None:
        """Stop the threads; called when the process ends."""
        self.notifier.stop()
        self.hub.stop()
        for close in self.closers:
            close()


def of(app: Flask) -> Services:
    """The services that were made for an app by `create_app`."""
    return cast(Services, app.extensions[EXTENSION])
