"""The result cache as the API uses it: what a request shares, and results kept in this process.

The job store looks for results of its own and for jobs that work on the same
(shared/store/lua/lib/flights.lua), in the call that makes a job. What is kept here is for
`CACHE_BACKEND=memory`, and for when Redis is away.
"""

from typing import Any

from shared.domain.models.catalog import ModelSpec
from shared.domain.models.model_version import Versions
from shared.domain.records import Record
from shared.domain.sharing import SPEAKS, Result, Share, deterministic, digest_of
from shared.domain.states import JobState
from shared.settings import Settings
from shared.store.result_memory import ResultMemory


class Cache:
    """Results of an app's jobs by the digest of what was asked, in this process' memory or in Redis."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.cache_max_size
        self._ttl = settings.cache_ttl
        self._in_redis = settings.cache_backend == "redis"
        self._versions = Versions()
        self._memory = ResultMemory(max(1, self._most), settings.cache_max_bytes)

    def share(
        self, spec: ModelSpec, tenant: str, content: Any, params: dict[str, Any], *, bypass: bool
    ) -> Share | None:
        """What a request shares with others that ask the same; None where it runs for itself."""
        if bypass or not (self._most and spec.cache.enabled and deterministic(spec, params)):
            return None
        return Share(
            digest_of(tenant, spec, self._versions.of(spec), content, params),
            ttl=int(self._ttl_of(spec)) if self._in_redis else 0,
            most=self._most,
            speaks=spec.engine in SPEAKS,
        )

    def known(self, share: Share) -> Result | None:
        """A result that the store is to be told, where it keeps none itself."""
        return self.kept(share) if not self._in_redis else None

    def kept(self, share: Share | None) -> Result | None:
        """A result that this process has."""
        return self._memory.get(share.digest) if share is not None else None

    def remember(self, record: Record, spec: ModelSpec) -> None:
        """Keep the result of a job, if it is one to be kept and was worked out, not found."""
        fields = record.fields
        share, output = fields.get("share"), fields.get("output")
        if share and output and record.state is JobState.SUCCEEDED and fields.get("cached") != "1":
            result = Result(output.encode(), fields.get("usage", "").encode())
            self._memory.put(share.split(" ")[0], result, self._ttl_of(spec))

    def forget(self, record: Record) -> None:
        """Keep a job's result no longer."""
        share = record.fields.get("share")
        if share:
            self._memory.forget(share.split(" ")[0])

    def _ttl_of(self, spec: ModelSpec) -> float:
        return self._ttl if spec.cache.ttl is None else spec.cache.ttl
