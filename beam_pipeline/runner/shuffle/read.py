"""The reduce side of a shuffle: merged entries as encoded elements, key by key; a hot key's values are streamed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipeline.runner.beam_internals import coder_impl, coders, trigger, window, windowed_value
from beam_pipeline.runner.shuffle.runs import Entry, Fetch, entries_of_key, merged_entries
from beam_pipeline.runner.shuffle.write import value_entry_coder

Streams = Sequence[Sequence[Any]]
Provide = Callable[[bytes, Callable[[], Iterator[bytes]]], None]

_PIECE_BYTES = 64 << 10
_INLINE_BYTES = 32 << 10
_HELD_BYTES = 16 << 20
_UNKNOWN_LENGTH = b"\xff\xff\xff\xff"
_CONTINUED_IN_STATE = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # -1 as a variable-length integer


@dataclass(frozen=True, slots=True)
class Piece:
    """Encoded elements of one partition. `key`: the last key that is complete with them, None within a key."""

    partition: int
    key: bytes | None
    data: bytes


@dataclass(frozen=True)
class KeyRange:
    """Partitions `[first, last)`: in the first one keys above `after_key`, in the last one keys up to `upto_key`."""

    first: int
    last: int
    after_key: bytes | None = None
    upto_key: bytes | None = None


class ShuffleReader:
    """Reads the input of a stage that follows a GroupByKey, or of a stateful one."""

    def __init__(self, stage_input: Any, context: Any, provide: Provide, fetch: Fetch) -> None:
        """`provide`: makes the values behind a token readable through Beam's state while the bundle runs."""
        self._fetch = fetch
        if stage_input.kind == "keyed":
            self._encode: Callable[..., Iterator[tuple[bytes, bool]]] = _elements
        elif stage_input.windowing_id:
            coder = context.coders[stage_input.coder_id]
            before = context.coders[stage_input.shuffle_coder_id]
            windowing = context.windowing_strategies[stage_input.windowing_id]
            self._encode = _WindowedGroups(coder, before, windowing).encode
        else:
            self._encode = _Groups(context.coders[stage_input.coder_id], provide, fetch).encode

    def pieces(self, streams: Streams, keys: KeyRange) -> Iterator[Piece]:
        """The elements in pieces of about 64 KB of whole keys, or within a key where it is larger."""
        small: list[bytes] = []
        nbytes, last = 0, (keys.first, b"")
        for (partition, key), entries in self._groups(streams, keys):
            if small and (partition != last[0] or nbytes >= _PIECE_BYTES):
                yield Piece(last[0], last[1], b"".join(small))
                small, nbytes = [], 0
            last = partition, key
            for data, complete in self._encode(streams, partition, key, entries):
                small.append(data)
                nbytes += len(data)
                if not complete and nbytes >= _PIECE_BYTES:
                    yield Piece(partition, None, b"".join(small))
                    small, nbytes = [], 0
        if small:
            yield Piece(last[0], last[1], b"".join(small))

    def _groups(self, streams: Streams, keys: KeyRange) -> Iterator[tuple[tuple[int, bytes], Iterator[Entry]]]:
        merged = merged_entries(streams, keys.first, keys.last, keys.after_key, self._fetch)
        for (partition, key), group in itertools.groupby(merged, _place):
            if keys.upto_key is not None and partition == keys.last - 1 and key > keys.upto_key:
                return
            yield (partition, key), (entry for _, entry in group)


def _place(item: tuple[int, Entry]) -> tuple[int, bytes]:
    return item[0], item[1].key


def _elements(streams: Streams, partition: int, key: bytes, entries: Iterator[Entry]) -> Iterator[tuple[bytes, bool]]:
    """Entries that hold whole elements already; what follows the last one says that the key is complete."""
    for entry in entries:
        yield entry.values.tobytes(), False
    yield b"", True


class _Groups:
    """One element a key, in the global window: its bytes are put together without decoding a value."""

    def __init__(self, coder: Any, provide: Provide, fetch: Fetch) -> None:
        self._provide = provide
        self._fetch = fetch
        end = window.GlobalWindows.windowed_value(
            b"",
            timestamp=window.GlobalWindow().max_timestamp(),
            pane_info=windowed_value.PaneInfo(True, True, windowed_value.PaneInfoTiming.ON_TIME, 0, 0),
        )
        header = coders.WindowedValueCoder(coders.BytesCoder(), coder.window_coder).get_impl().encode_nested(end)
        self._header = header[:-1]  # less the length of b""

    def encode(
        self, streams: Streams, partition: int, key: bytes, entries: Iterator[Entry]
    ) -> Iterator[tuple[bytes, bool]]:
        held: list[Entry] = []
        nbytes = 0
        for entry in entries:
            held.append(entry)
            nbytes += len(entry.values)
            if nbytes > _HELD_BYTES:
                yield (
                    self._from_state(partition, key, lambda: entries_of_key(streams, partition, key, self._fetch)),
                    True,
                )
                return
        if nbytes > _INLINE_BYTES:
            yield self._from_state(partition, key, lambda: held), True
            return
        count = sum(entry.count for entry in held)
        yield b"".join([self._header, key, count.to_bytes(4, "big"), *(e.values.tobytes() for e in held)]), True

    def _from_state(self, partition: int, key: bytes, entries: Callable[[], Iterable[Entry]]) -> bytes:
        """An element whose values are read from the state, so that no more of them are decoded than are looked at."""
        token = b"group:%d:%s" % (partition, key)
        self._provide(token, lambda: (entry.values.tobytes() for entry in entries()))
        out = coder_impl.create_OutputStream()
        out.write(token, True)
        return self._header + key + _UNKNOWN_LENGTH + _CONTINUED_IN_STATE + bytes(out.get())


class _WindowedGroups:
    """Windows are assigned, merged and triggered by Beam's own driver, which takes a key's values all at once."""

    def __init__(self, coder: Any, before: Any, windowing: Any) -> None:
        self._impl = coder.get_impl()
        self._key_impl = before.wrapped_value_coder.key_coder().get_impl()
        self._value_impl = value_entry_coder(before).get_impl()
        self._driver = trigger.create_trigger_driver(windowing, True)

    def encode(
        self, streams: Streams, partition: int, key: bytes, entries: Iterator[Entry]
    ) -> Iterator[tuple[bytes, bool]]:
        values: list[Any] = []
        for entry in entries:
            stream = coder_impl.create_InputStream(entry.values.tobytes())
            values.extend(self._value_impl.decode_from_stream(stream, True) for _ in range(entry.count))
        decoded_key = self._key_impl.decode_from_stream(coder_impl.create_InputStream(key), True)
        out = coder_impl.create_OutputStream()
        for group in self._driver.process_entire_key(decoded_key, values):
            self._impl.encode_to_stream(group, out, True)
        yield out.get(), True
