"""The worker that rescues and delivers, without Celery: its parts, started and stopped as one."""

from collections.abc import Callable
from functools import partial

from shared.files import open_storage
from shared.hooks import Observers
from shared.settings import Settings, key_secret
from shared.store.batches import Batches
from shared.store.files import Files
from shared.store.jobs import JobStore
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.lookups import MOST
from shared.webhooks.outbox import Outbox
from shared.webhooks.policy import Allowed, UrlPolicy
from shared.webhooks.secrets import WebhookSecrets
from shared.webhooks.signers import signer
from workers.files.sweeper import FileSweeper
from workers.queue.rescuer import Rescuer
from workers.webhooks.deliveries import Deliveries, DeliveryPoller
from workers.webhooks.sender import Sender


class RescueRuntime:
    """Rescues jobs, rings for deliveries that are due, and sweeps files, on threads of its own.

    `ring` pushes a doorbell for a model, `ring_deliveries` one for `deliveries`, which a Celery task answers.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        ring: Callable[[str], object],
        ring_deliveries: Callable[[], object],
    ) -> None:
        self.observers = Observers()
        outbox = Outbox(store)
        self.deliveries = _deliveries(settings, store, outbox, self.observers)
        self._rescuer = Rescuer(store, ring, observers=self.observers)
        # Twice the time of the retries: what waits longer was never let through to its receiver.
        longest_wait = 2 * settings.webhook_retry_span + settings.webhook_retry_longest
        self._poller = DeliveryPoller(outbox, ring_deliveries, longest_wait)
        self._sweeper = FileSweeper(
            Files(store),
            Batches(store, settings.batch_retention),
            open_storage(settings.file_storage, settings.state_dir),
        )

    def start(self) -> None:
        self._rescuer.start()
        self._poller.start()
        self._sweeper.start()

    def stop_claiming(self) -> None:
        """Take no more deliveries; those that are under way go on."""
        self.deliveries.stop_claiming()

    def stop(self) -> None:
        self._rescuer.stop()
        self._poller.stop()
        self._sweeper.stop()


def _deliveries(
    settings: Settings, store: JobStore, outbox: Outbox, observers: Observers
) -> Deliveries:
    policy = UrlPolicy(
        Allowed.parse(settings.webhook_allow), most=max(MOST, settings.webhook_concurrency)
    )
    # The file with a server's own token may be written only after this process has begun.
    own = partial(key_secret, settings)
    secrets = WebhookSecrets(store.redis, store.keys, own, settings.keyring)
    return Deliveries(
        outbox,
        Sender(policy, settings.webhook_timeout),
        signer(secrets, Endpoints(store.redis, store.keys, own)),
        settings.webhook_schedule,
        concurrency=settings.webhook_concurrency,
        timeout=settings.webhook_timeout,
        drain_time=settings.drain_time,
        observers=observers,
    )
