"""The timers of one bundle: which are set, and in which order they fire once the input is read."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

TimerFamily = tuple[str, str]


class TimerQueue:
    """Fires timers as Beam's batch model does: the watermark, then the clock, jump to infinity behind the input.

    A later setting of the same (key, window, family, tag) replaces an earlier one, and a clearing removes it. A key's
    timers fire one a round, since each may set or clear the others: those of event time first, by their time, then
    those of processing time, whose delay is not waited for. Keys do not wait for each other.
    """

    def __init__(self, timer_coders: Mapping[TimerFamily, Any], processing_time: Collection[TimerFamily] = ()) -> None:
        """`timer_coders`: coder implementations by (transform id, family); `processing_time`: those of that domain."""
        self._coders = timer_coders
        self._processing_time = frozenset(processing_time)
        self._keys: dict[tuple[str, bytes], _TimersOfKey] = {}
        self._sequence = 0

    def add(self, written: Mapping[TimerFamily, Iterable[bytes]]) -> None:
        """Take encoded settings and clearings, in the order in which they were written."""
        for family, chunks in written.items():
            coder = self._coders[family]
            for chunk in chunks:
                for timer in coder.decode_all(chunk):
                    self._take(family, coder, timer)

    def next_round(self) -> Mapping[TimerFamily, bytes] | None:
        """The encoded timers to fire next, by family and sorted by their time; None where no timer is set."""
        due = []
        for place, timers in list(self._keys.items()):
            found = timers.pop()
            if found is None:
                del self._keys[place]
            else:
                due.append(found)
        fired: dict[TimerFamily, list[bytes]] = defaultdict(list)
        for _, family, encoded in sorted(due):
            fired[family].append(encoded)
        return {family: b"".join(encoded) for family, encoded in fired.items()} if fired else None

    def _take(self, family: TimerFamily, coder: Any, timer: Any) -> None:
        # a key may be unhashable, so it is told by its encoding: that of a clearing without tag and window
        key = coder.encode_nested(timer._replace(dynamic_timer_tag="", windows=(), clear_bit=True))
        timers = self._keys.setdefault((family[0], key), _TimersOfKey())
        identity = (family, timer.dynamic_timer_tag, timer.windows[0])
        if timer.clear_bit:
            timers.clear(identity)
            return
        self._sequence += 1
        order = (family in self._processing_time, timer.fire_timestamp.micros, self._sequence)
        timers.set(identity, order, coder.encode_nested(timer))


_Identity = tuple[TimerFamily, str, Any]
_Order = tuple[bool, int, int]


class _TimersOfKey:
    """The timers set for one key. The heap also holds those replaced or cleared since; `_set` tells which are valid."""

    def __init__(self) -> None:
        self._heap: list[tuple[_Order, _Identity]] = []
        self._set: dict[_Identity, tuple[_Order, bytes]] = {}

    def set(self, identity: _Identity, order: _Order, encoded: bytes) -> None:
        self._set[identity] = (order, encoded)
        heapq.heappush(self._heap, (order, identity))

    def clear(self, identity: _Identity) -> None:
        self._set.pop(identity, None)

    def pop(self) -> tuple[_Order, TimerFamily, bytes] | None:
        """The first timer, which is not set any more then."""
        while self._heap:
            order, identity = heapq.heappop(self._heap)
            current = self._set.get(identity)
            if current and current[0] == order:
                del self._set[identity]
                return order, identity[0], current[1]
        return None
