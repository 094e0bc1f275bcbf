"""What rescuers do: put right what dead workers and lost doorbells left behind."""

from shared.domain.write_results import Rescued
from shared.redis.connection import reachable
from shared.store.jobs.calls import ScriptCalls


class Rescue(ScriptCalls):
    """One rescuer at a time holds the lock of `lock_rescue`."""

    def rescue(self, model: str, limit: int = 100) -> Rescued:
        """Put right what dead workers, lost doorbells and passed deadlines left of a model's jobs."""
        reply = self._call("rescue", model, limit, self.retention)
        requeued, failed, due, expired, ring = map(int, reply)
        return Rescued(requeued, failed, due, expired, bool(ring))

    def lock_rescue(self, owner: str, seconds: float) -> bool:
        """Whether `owner` may rescue now: one rescuer at a time spares the others' work."""
        with reachable():
            key = self.keys("rescuer")
            if self.redis.set(key, owner, nx=True, px=int(seconds * 1000)):
                return True
            if self.redis.get(key) == owner.encode():
                self.redis.pexpire(key, int(seconds * 1000))
                return True
        return False

    def rescued_lately(self) -> bool:
        """Whether some rescuer holds the lock, which lapses seconds after its last round."""
        with reachable():
            return bool(self.redis.exists(self.keys("rescuer")))
