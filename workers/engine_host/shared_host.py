"""One engine host for the catalogue entries of a base model: the base itself and its adapters.

Each entry keeps its own queue, limits, breaker and quarantine; they share host, weights and batch. What the
host says of an attempt goes to the entry that sent it. What it says of itself goes to all.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from shared.domain.models.catalog import ModelSpec
from workers.engine_host.client import EngineClient, HostOptions
from workers.engine_host.events import Cause, EngineEvents, EngineState
from workers.host_protocol.messages import Command, Ready, Stepped, Submit


class Tenant(EngineEvents, Protocol):
    """Who runs an entry's attempts in the host."""

    @property
    def quarantined(self) -> bool:
        """Whether it has attempts that must run without those of others beside them."""

    @property
    def room_changed(self) -> Callable[[], None]:
        """To be called when jobs of another entry have left the host."""


class SharedHost:
    """The host of `spec`. All entries `join` before the first of them starts."""

    def __init__(self, spec: ModelSpec, options: HostOptions | None = None) -> None:
        self.client = EngineClient(spec, self, options)
        self._lock = threading.Lock()
        self._members: list[HostMember] = []
        self._owners: dict[str, HostMember] = {}
        """Whose each attempt in the host is; bounded by what its members have in it."""
        self._left = 0
        self._started = False

    @classmethod
    def of(cls, spec: ModelSpec, host: "SharedHost | HostOptions | None") -> "SharedHost":
        """The host that is given, or one for this entry alone with such options."""
        return host if isinstance(host, SharedHost) else cls(spec, host)

    def join(self, spec: ModelSpec, tenant: Tenant) -> "HostMember":
        """An entry's own access to the host."""
        member = HostMember(self, spec, tenant)
        self._members.append(member)
        return member

    def start(self) -> None:
        """Start the host for whoever asks first."""
        if not self._started:
            self._started = True
            self.client.start()

    def leave(self) -> None:
        """A member needs the host no more. The last one ends it."""
        self._left += 1
        if self._left == len(self._members):
            self.client.stop()

    def send(self, member: "HostMember", commands: Sequence[Command], *, alone: bool) -> bool:
        """Send an entry's commands. False when there is no host to take them.

        Attempts that must run `alone` are not taken while others' are here, and others' not beside them.
        """
        tickets = [each.ticket for each in commands if isinstance(each, Submit)]
        with self._lock:
            strangers = any(owner is not member for owner in self._owners.values())
            if tickets and strangers and (alone or self.reserved_for(member) is not None):
                return False
            self._owners.update(dict.fromkeys(tickets, member))
        if self.client.send(commands):
            return True
        with self._lock:
            for ticket in tickets:
                self._owners.pop(ticket, None)
        return False

    def reserved_for(self, member: "HostMember") -> "HostMember | None":
        """Another entry whose attempts must run without those of `member` beside them."""
        return next(
            (one for one in self._members if one is not member and one.tenant.quarantined), None
        )

    def held_by_others(self, member: "HostMember") -> int:
        """How many attempts of other entries are in the host."""
        if len(self._members) == 1:
            return 0
        with self._lock:
            return sum(owner is not member for owner in self._owners.values())

    @property
    def members(self) -> int:
        return len(self._members)

    # -- what the host says (EngineEvents)

    def engine_stepped(self, steps: Sequence[Stepped]) -> None:
        if len(self._members) == 1:
            # The only one has whatever comes.
            self._members[0].tenant.engine_stepped(steps)
            self._forget(steps)
            return
        with self._lock:
            owners = dict(self._owners)
        for member in self._members:
            mine = [part for step in steps if (part := _part(step, member, owners)) is not None]
            if mine:
                member.tenant.engine_stepped(mine)
        if self._forget(steps):
            for member in self._members:
                member.tenant.room_changed()

    def engine_lost(self, reason: str, cause: Cause, culprit: str) -> None:
        """Whose attempts cannot have been the cause is told of an end that was nobody's fault."""
        with self._lock:
            owners, self._owners = self._owners, {}
        guilty = {owners[culprit]} if culprit in owners else set(owners.values())
        for member in self._members:
            suspect = member in guilty or not guilty or cause == "device"
            told: Cause = cause if suspect else "drained"
            member.tenant.engine_lost(reason, told, culprit if suspect else "")

    def engine_changed(self, state: EngineState, detail: str) -> None:
        for member in self._members:
            refused = member.refused if state is EngineState.READY else ""
            if refused:
                member.tenant.engine_changed(EngineState.FAILED, refused)
            else:
                member.tenant.engine_changed(state, detail)

    def _forget(self, steps: Sequence[Stepped]) -> bool:
        """Attempts that have ended are in the host no more. Whether there are any."""
        ended = [outcome.ticket for step in steps for outcome in step.outcomes]
        with self._lock:
            for ticket in ended:
                self._owners.pop(ticket, None)
        return bool(ended)


class HostMember:
    """One entry's access to a host: what it looks like to this entry, and room for its share of jobs."""

    def __init__(self, host: SharedHost, spec: ModelSpec, tenant: Tenant) -> None:
        self.spec = spec
        self.tenant = tenant
        self._host = host
        self._name = spec.name
        self._adapter = spec.name if spec.name != host.client.spec.name else ""
        self._known: tuple[Ready, Ready] | None = None
        """What the host said of itself last, and what of that is this entry's."""

    @property
    def refused(self) -> str:
        """Why the host, which is ready, does not serve this entry; "" where it does."""
        info = self._host.client.info
        return info.refused.get(self._name, "") if info is not None else ""

    @property
    def state(self) -> EngineState:
        state = self._host.client.state
        return EngineState.FAILED if state is EngineState.READY and self.refused else state

    @property
    def detail(self) -> str:
        return self.refused or self._host.client.detail

    @property
    def info(self) -> Ready | None:
        """What the host said of itself, with what is this entry's own."""
        info = self._host.client.info
        if info is None or not self._adapter:
            return info
        known = self._known
        if known is None or known[0] is not info:
            details = {**info.details, **info.adapters.get(self._name, {})}
            self._known = known = (info, msgspec.structs.replace(info, details=details))
        return known[1]

    @property
    def restarts(self) -> int:
        return self._host.client.restarts

    @property
    def restart_seconds(self) -> float | None:
        return self._host.client.restart_seconds

    @property
    def memory(self) -> int:
        return self._host.client.memory

    @property
    def budget(self) -> float | None:
        return self._host.client.budget

    @property
    def draining(self) -> bool:
        return self._host.client.draining

    @property
    def pid(self) -> int | None:
        return self._host.client.pid

    @property
    def reserved(self) -> bool:
        """Whether another entry's suspects are running, or wait to run, without anybody beside them."""
        return self._host.reserved_for(self) is not None

    @property
    def shared(self) -> bool:
        """Whether attempts of other entries are in the host."""
        return self._host.held_by_others(self) > 0

    def room(self, active: int) -> int:
        """How many more jobs this entry may send, which has `active` ones.

        What others have left free, and never less than an even share: who comes late to a full host waits
        inside it for a turn, in order of arrival, and not outside for ever.
        """
        info = self.info
        if info is None:
            return 0
        free = info.capacity - active - self._host.held_by_others(self)
        share = info.capacity // self._host.members if self._host.members > 1 else 0
        return max(0, free, max(1, share) - active if share else 0)

    def start(self) -> None:
        self._host.start()

    def stop(self) -> None:
        self._host.leave()

    def kill(self, reason: str) -> None:
        """See `EngineClient.kill`."""
        self._host.client.kill(reason)

    def send(self, commands: Sequence[Command], *, alone: bool = False) -> bool:
        """See `SharedHost.send`."""
        if self._adapter:
            commands = [
                msgspec.structs.replace(each, adapter=self._adapter)
                if isinstance(each, Submit)
                else each
                for each in commands
            ]
        return self._host.send(self, commands, alone=alone)


def _part(step: Stepped, member: HostMember, owners: dict[str, HostMember]) -> Stepped | None:
    """What of a step is a member's."""
    pieces = [piece for piece in step.pieces if owners.get(piece.ticket) is member]
    outcomes = [outcome for outcome in step.outcomes if owners.get(outcome.ticket) is member]
    if not pieces and not outcomes:
        return None
    return Stepped(pieces, outcomes, step.batch_size, step.step_ms)
