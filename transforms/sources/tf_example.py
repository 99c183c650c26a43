"""tf.train.Example on the wire, read and written without TensorFlow or protobuf.

Example { Features features = 1 }; Features { map<string, Feature> feature = 1 }; Feature is one of
BytesList (1), FloatList (2), Int64List (3), each `repeated value = 1`. (tensorflow/core/example/feature.proto)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from transforms.unreadable import Unreadable

Values = list[memoryview] | NDArray[np.float32] | NDArray[np.int64]
"""What a feature holds: views of a BytesList's values, a FloatList (read-only view), or an Int64List."""
_List = tuple[bytes, int, int, int]
"""Key, kind (1 bytes, 2 float, 3 int64) and [start, end) of the list's message."""
_FLOAT32 = np.dtype("<f4")
_SHORT_BYTES = 4096


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _packed(body: bytes) -> bytes:
    return _message(1, body) if body else b""


def _encode_varints(values: NDArray[np.int64]) -> bytes:
    """(N,) int64 as packed varints; a negative value takes ten bytes, as in protobuf."""
    left = values.astype(np.uint64)
    groups = np.empty((len(values), 10), np.uint8)
    for column in range(10):
        groups[:, column] = (left & np.uint64(0x7F)).astype(np.uint8)
        left = left >> np.uint64(7)
    used = 10 - np.argmax(groups[:, ::-1] != 0, axis=1)
    used[~groups.any(axis=1)] = 1
    position = np.arange(10)
    groups[position < used[:, None] - 1] |= 0x80
    return groups[position < used[:, None]].tobytes()


def encode_example(features: Mapping[str, Sequence[bytes] | NDArray[np.generic]]) -> bytes:
    """A serialised tf.train.Example, keys sorted: floating arrays as FloatList, integers and bools as Int64List.

    Arrays of any shape are flattened in row order; a sequence of `bytes` becomes a BytesList.
    """
    entries = []
    for key in sorted(features):
        values = features[key]
        if not isinstance(values, np.ndarray):
            body = _message(1, b"".join(_message(1, bytes(item)) for item in values))
        elif values.dtype.kind == "f":
            body = _message(2, _packed(values.astype("<f4").tobytes()))
        elif values.dtype.kind in "iub":
            body = _message(3, _packed(_encode_varints(values.astype(np.int64).reshape(-1))))
        else:
            raise TypeError(f"feature {key!r} is an array of {values.dtype}; give floats, integers, bools or bytes")
        entries.append(_message(1, _message(1, key.encode()) + _message(2, body)))
    return _message(1, b"".join(entries))


def parse_example(payload: bytes, keys: frozenset[str] | None = None) -> dict[str, Values]:
    """The features of a serialised tf.train.Example by name, or those of `keys` only; values share the payload.

    Raises Unreadable `wrong_format` where the bytes are no such message.
    """
    out: dict[str, Values] = {}
    view = memoryview(payload)
    try:
        for number, start, end in _fields(payload, 0, len(payload)):
            for name, kind, first, last in _lists(payload, start, end) if number == 1 else ():
                key = name.decode()
                if keys is not None and key not in keys:
                    continue
                if kind == 2:
                    out[key] = _float_list(payload, first, last)
                elif kind == 3:
                    out[key] = _int64_list(payload, first, last)
                elif kind == 1:
                    out[key] = _bytes_list(payload, view, first, last)
    except (IndexError, ValueError) as error:
        raise Unreadable(
            "wrong_format", f"{len(payload)} bytes are no tf.train.Example: {error}; name the source's format"
        ) from error
    return out


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, the position behind it); sizes of lists take up to three bytes as a rule, so these need no loop."""
    value = data[position]
    if value < 0x80:
        return value, position + 1
    second = data[position + 1]
    if second < 0x80:
        return value & 0x7F | second << 7, position + 2
    third = data[position + 2]
    value = value & 0x7F | (second & 0x7F) << 7 | (third & 0x7F) << 14
    position += 3
    shift = 21
    while third > 0x7F:
        if shift > 63:
            raise ValueError(f"varint of over 10 bytes at byte {position}")
        third = data[position]
        value |= (third & 0x7F) << shift
        position += 1
        shift += 7
    return value, position


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of the length-delimited fields of a message; others are unknown here and passed over."""
    while position < end:
        tag = data[position]
        position += 1
        if tag > 0x7F:  # tags and sizes of one byte are the rule: a call would cost more than all else here
            tag, position = _read_varint(data, position - 1)
        wire = tag & 7
        if wire == 2:
            size = data[position]
            position += 1
            if size > 0x7F:
                size, position = _read_varint(data, position - 1)
            if position + size > end:
                raise ValueError(f"field of {size} bytes at byte {position} passes its message's end at {end}")
            yield tag >> 3, position, position + size
            position += size
        else:
            position = _pass_over(data, position, wire)
    if position != end:
        raise ValueError(f"message ends at byte {position}, declared to end at {end}")


def _pass_over(data: bytes, position: int, wire: int) -> int:
    if wire == 0:
        return _read_varint(data, position)[1]
    if wire not in (1, 5):
        raise ValueError(f"wire type {wire} at byte {position}")
    return position + (8 if wire == 1 else 4)


def _lists(data: bytes, position: int, end: int) -> Iterator[_List]:
    """The lists of a Features message, `data[position:end]`, by key.

    Writers lay an entry out as a short key, then a value of one list that fills it: these are taken without a call or a
    generator per field, which would cost more than all other parsing. What lies otherwise goes field by field.
    """
    while end - position > 8 and data[position] == 0x0A:
        size, key_at = data[position + 1], position + 2
        if size > 0x7F:
            size, key_at = _read_varint(data, position + 1)
        stop = key_at + size
        if size < 6 or stop > end or data[key_at] != 0x0A or data[key_at + 1] > 0x7F:
            break
        value_at = key_at + 2 + data[key_at + 1]
        if value_at + 4 > stop or data[value_at] != 0x12:
            break
        size, list_at = data[value_at + 1], value_at + 2
        if size > 0x7F:
            size, list_at = _read_varint(data, value_at + 1)
        if list_at + size != stop or size < 2 or data[list_at] & 0x87 != 2:
            break
        size, first = data[list_at + 1], list_at + 2
        if size > 0x7F:
            size, first = _read_varint(data, list_at + 1)
        if first + size != stop:
            break
        yield data[key_at + 2 : value_at], data[list_at] >> 3, first, stop
        position = stop
    for number, start, stop in _fields(data, position, end):
        if number == 1:
            yield from _entry_lists(data, start, stop)


def _entry_lists(data: bytes, start: int, end: int) -> Iterator[_List]:
    """The lists of a map entry in any layout; of repeated fields the last counts."""
    key, value_at = b"", (0, 0)
    for number, first, last in _fields(data, start, end):
        if number == 1:
            key = data[first:last]
        elif number == 2:
            value_at = (first, last)
    for kind, first, last in _fields(data, *value_at):
        yield key, kind, first, last


def _bytes_list(data: bytes, view: memoryview, position: int, end: int) -> list[memoryview]:
    items: list[memoryview] = []
    start = position
    while position < end:
        if data[position] != 0x0A:
            raise ValueError(f"tag {data[position]:#x} in a BytesList at byte {position}")
        size = data[position + 1]
        position += 2
        if size > 0x7F:  # most texts are shorter: the call below would cost them more than the slice
            size, position = _read_varint(data, position - 1)
        stop = position + size
        if stop > end:
            raise ValueError(f"value of {size} bytes at byte {position} passes its list's end at {end}")
        items.append(view[position:stop])
        position = stop
        if len(items) == 2 and (times := _repeats(data, start, stop, end)):
            return items[:1] * times
    return items


def _repeats(data: bytes, start: int, second_end: int, end: int) -> int:
    """How often a list holds the one short value of its first two; 0 where they differ: an episode's one instruction.

    `start` to `second_end` are the first two values with their tags, `start` to `end` all of them.
    """
    size, odd = divmod(second_end - start, 2)
    times, rest = divmod(end - start, size)
    unit = data[start : start + size]
    same = not odd and not rest and size <= _SHORT_BYTES and data.startswith(unit, start + size)
    return times if same and data[start:end] == unit * times else 0


def _float_list(data: bytes, start: int, end: int) -> NDArray[np.float32]:
    """Packed values as one view; unpacked ones (tag 0x0d before each) as every fifth byte's."""
    first = _sole_run(data, start, end)
    if first and not (end - first) % 4:
        return np.frombuffer(data, _FLOAT32, (end - first) // 4, first)
    if start < end and data[start] == 0x0D:
        rows = np.frombuffer(data, np.uint8, end - start, start)
        if len(rows) % 5 or (rows[::5] != 0x0D).any():
            raise ValueError(f"unpacked FloatList of {len(rows)} bytes at byte {start} mixes tags")
        return np.ascontiguousarray(rows.reshape(-1, 5)[:, 1:]).view("<f4").reshape(-1)
    parts = [np.frombuffer(data, _FLOAT32, (b - a) // 4, a) for a, b in _packed_runs(data, start, end, 4)]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _int64_list(data: bytes, start: int, end: int) -> NDArray[np.int64]:
    """Packed varints, or unpacked ones (tag 0x08 before each)."""
    first = _sole_run(data, start, end)
    if first:
        return decode_varints(data, first, end)
    if start < end and data[start] == 0x08:
        pairs = decode_varints(data, start, end)
        if len(pairs) % 2 or (pairs[::2] != 8).any():
            raise ValueError(f"unpacked Int64List of {end - start} bytes at byte {start} mixes tags")
        return pairs[1::2]
    parts = [decode_varints(data, a, b) for a, b in _packed_runs(data, start, end, 1)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _sole_run(data: bytes, start: int, end: int) -> int:
    """Where the values begin that fill a list as one packed run, as writers lay them out; 0 where they do not."""
    if end - start < 2 or data[start] != 0x0A:
        return 0
    size, first = data[start + 1], start + 2
    if size > 0x7F:
        size, first = _read_varint(data, start + 1)
    return first if first + size == end else 0


def _packed_runs(data: bytes, start: int, end: int, width: int) -> list[tuple[int, int]]:
    runs = []
    for number, first, last in _fields(data, start, end):
        if number != 1 or (last - first) % width:
            raise ValueError(f"packed field {number} of {last - first} bytes at byte {first}; values take {width}")
        runs.append((first, last))
    return runs


def decode_varints(data: bytes, start: int, end: int) -> NDArray[np.int64]:
    """All varints in `data[start:end]` as (N,) int64, without a loop over values. Raises ValueError on a cut one."""
    raw = np.frombuffer(data, np.uint8, end - start, start)
    if data[start:end].isascii():  # a byte a value: flags and small counts
        return raw.astype(np.int64)
    last = np.flatnonzero(raw < 0x80)
    if len(last) == 0 or last[-1] != len(raw) - 1:
        raise ValueError(f"varint cut at byte {end}")
    first = np.concatenate([np.zeros(1, np.int64), last[:-1] + 1])
    sizes = last - first + 1
    longest = int(sizes.max())
    if longest > 10:
        raise ValueError(f"varint of {longest} bytes in the list at byte {start}; at most 10")
    out = (raw[first] & 0x7F).astype(np.uint64)
    for extra in range(1, longest):
        held = np.flatnonzero(sizes > extra)
        group = (raw[first[held] + extra] & 0x7F).astype(np.uint64)
        out[held] |= group << np.uint64(7 * extra)
    return out.view(np.int64)
