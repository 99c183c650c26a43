"""ROS 2 bags in SQLite (db3): one recording a file, or a rosbag2 folder whose metadata.yaml lists several."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from transforms.conventions import Embodiment, Source
from transforms.episode import Finding, ImageRef, Problem, Recording, RecordingRef
from transforms.sources.bag_plan import BagFormat, BagPlace, detect_bag, plan_bags
from transforms.sources.ros_collect import STAGE, Batch, Collected, TopicCollector
from transforms.sources.ros_definition import parse_definition, type_name
from transforms.sources.ros_images import UnreadableImage, encoded_image, is_depth
from transforms.sources.ros_layout import Wire
from transforms.sources.ros_recording import guessed_of, named_topics, recorded
from transforms.sources.ros_streams import BagStart
from transforms.sources.ros_topics import Topic
from transforms.sources.ros_wire import Decoder
from transforms.sources.rosbag2_metadata import lost_of
from transforms.stores.paths import ObjectPath
from transforms.unreadable import Unreadable

FORMAT = "rosbag2"
SUFFIX = ".db3"
MAGIC = b"SQLite format 3\0"
_ROWS = 4096


class ImagePlace(msgspec.Struct, frozen=True):
    """A topic's images: the file of each, beside the uri, and its row; both by order of log time."""

    kind: str
    wire: Wire
    definition: str
    files: tuple[str, ...]
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _TopicRow:
    """A row of the table `topics`."""

    number: int
    name: str
    kind: str
    encoding: str


def is_database(path: Path) -> bool:
    """Whether a file is SQLite by its magic."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _problem(path: Path) -> Problem | None:
    """Why a file is no bag, from its tables alone; None where it is one."""
    if isinstance(path, ObjectPath):
        detail = f"{path}: .db3 bags are read from local files alone; copy it here, or convert it to MCAP"
        return Problem("unreadable", detail)
    if path.stat().st_size == 0:
        return Problem("empty", f"{path.name} is empty (0 bytes); record it again or leave it out")
    if not is_database(path):
        with path.open("rb") as file:
            head = file.read(8)
        return Problem("wrong_format", f"{path.name} is no SQLite database: it begins with {head!r}; copy it again")
    try:
        with closing(open_database(path)) as database:
            names = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    except sqlite3.DatabaseError as error:
        return Problem("corrupt", f"{path.name}: its tables cannot be read ({error}); copy it again")
    if missing := sorted({"messages", "topics"} - names):
        return Problem("wrong_format", f"{path.name} is no ROS 2 bag: it has no table {' or '.join(missing)}")
    return None


def open_database(path: Path) -> sqlite3.Connection:
    """The database, never written to; one that is cut is opened too, which SQLite refuses without the pragma."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    database.execute("pragma writable_schema = on")
    return database


_BAGS = BagFormat(FORMAT, SUFFIX, is_database, _problem)


def detect(path: Path) -> bool:
    """True for a SQLite file named `.db3` or with rosbag2's tables, and for a folder whose metadata.yaml lists some."""
    if path.is_dir() or path.suffix == SUFFIX:
        return detect_bag(path, _BAGS)
    return path.is_file() and path.stat().st_size > 0 and is_database(path) and _problem(path) is None


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per file, or per folder with a metadata.yaml; raises Unreadable as `plan_bags` does."""
    yield from plan_bags(source, path, _BAGS)


def _definitions(database: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """Encoding and text of each type's definition; none in bags of Humble and before, or where they are cut off."""
    try:
        rows = database.execute("select topic_type, encoding, encoded_message_definition from message_definitions")
        return {type_name(kind): (encoding, text) for kind, encoding, text in rows.fetchall()}
    except sqlite3.DatabaseError:
        return {}


def _read_file(path: Path, bag: Collected, limit: int | None = None) -> tuple[int, list[int]]:
    """Read a file's messages into the bag; how many there were, and the clock's first and last ns of them."""
    count = 0
    span: list[int] = []
    cut_page = _cut_page(path)
    with closing(open_database(path)) as database:
        definitions = _definitions(database)
        topics = [
            _TopicRow(*row) for row in database.execute("select id, name, type, serialization_format from topics")
        ]
        for topic in topics:
            kind = type_name(topic.kind)
            into = bag.place_for(topic.name, kind, topic.encoding, definitions.get(kind, ("", "")))
            try:
                for rows in _batches(database, topic.number, limit, cut_page):
                    count += len(rows)
                    span = [min([*span, rows[0][1]]), max([*span, rows[-1][1]])]
                    if isinstance(into, TopicCollector):
                        _add(into, path, rows)
                    else:
                        bag.skip(topic.name, into, len(rows))
            except sqlite3.DatabaseError as error:
                detail = f"{path.name}: {topic.name} cannot be read on ({error}); what was read before is kept"
                bag.findings.append(Finding(STAGE, "integrity.chunk", 1.0, "chunks", detail=detail))
    return count, span


def _cut_page(path: Path) -> int:
    """Bytes of a page of a file that is shorter than its header says; 0 of a whole one."""
    with path.open("rb") as file:
        head = file.read(32)
    size = int.from_bytes(head[16:18], "big")
    page = 65536 if size == 1 else size
    return page if path.stat().st_size < page * int.from_bytes(head[28:32], "big") else 0


def _batches(
    database: sqlite3.Connection, topic: int, limit: int | None, cut_page: int
) -> Iterator[list[tuple[int, int, bytes]]]:
    """Rows `id, timestamp, data` of a topic in the order in which they were written; the last before an error too.

    SQLite reads zeros where a page is cut: of a file that is, the last rows that can lie on such a page are left out.
    """
    query = "select id, timestamp, data from messages where topic_id = ? order by id limit ?"
    rows: list[tuple[int, int, bytes]] = []
    try:
        for row in database.execute(query, (topic, -1 if limit is None else limit)):
            rows.append(row)
            if len(rows) == 2 * _ROWS:
                yield rows[:_ROWS]
                del rows[:_ROWS]
    except sqlite3.DatabaseError:
        _leave_out(rows, cut_page)
        if rows:
            yield rows
        raise
    _leave_out(rows, cut_page)
    if rows:
        yield rows


def _leave_out(rows: list[tuple[int, int, bytes]], cut_page: int) -> None:
    """Drop the last rows until they are more than a page."""
    dropped = 0
    while cut_page and rows and dropped <= cut_page:
        dropped += len(rows.pop()[2])


def _add(into: TopicCollector, path: Path, rows: Sequence[tuple[int, int, bytes]]) -> None:
    sizes = np.array([len(data) for _, _, data in rows], np.int64)
    buffer = np.frombuffer(b"".join(data for _, _, data in rows), np.uint8)
    times = np.array([time for _, time, _ in rows], np.int64)
    into.add(Batch(str(path), rows[0][0], len(rows)), buffer, np.cumsum(sizes) - sizes, sizes, times)


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One bag: a stream for each set of topics that make columns, cameras by reference, what is lost as findings.

    Raises Unreadable: `absent`, `empty`, `corrupt`, `required_missing`.
    """
    place = msgspec.json.decode(ref.place, type=BagPlace)
    files = place.files_of(ref)
    bag = Collected(named_topics(source.topics))
    count = 0
    spans: list[int] = []
    for file in files:
        try:
            found, span = _read_file(file, bag)
        except sqlite3.DatabaseError as error:
            raise Unreadable("corrupt", f"{file.name}: its topics cannot be read ({error}); copy it again") from error
        count, spans = count + found, spans + span
    bag.findings += lost_of(place.messages, place.duration_ns, count, max(spans) - min(spans) if spans else 0)
    if not count:
        raise Unreadable("empty", f"{files[0].name} holds no message; record it again or leave it out")
    return recorded(ref, source, files, bag, lambda topic, of: _image_ref(ref.uri, files, topic, of))


def guess(path: Path) -> BagStart:
    """The mapping that a bag would be read with where none is declared, and rates, from each topic's first messages."""
    found = Collected()
    _read_file(path, found, limit=_ROWS)
    return guessed_of(path, found)


def _image_ref(uri: str, files: Sequence[Path], topic: Topic, collector: TopicCollector) -> ImageRef:
    where: list[tuple[int, int]] = []
    numbers = {str(file): index for index, file in enumerate(files)}
    topics: dict[str, list[int]] = {}
    for batch in collector.batches:
        if batch.file not in topics:
            topics[batch.file] = _row_ids(batch.file, topic.name)
            where += [(numbers[batch.file], row) for row in topics[batch.file]]
    rows = tuple(where[number] for number in collector.ordinals())
    place = ImagePlace(topic.kind, collector.wire, collector.definition_text, tuple(f.name for f in files), rows)
    encoded = msgspec.json.encode(place).decode()
    digest = collector.digest.hexdigest()
    return ImageRef(uri, encoded, topic.count, digest, is_depth(topic), n_bytes=collector.image_bytes)


def _row_ids(file: str, topic: str) -> list[int]:
    query = "select m.id from messages m join topics t on t.id = m.topic_id where t.name = ? order by t.id, m.id"
    with closing(open_database(Path(file))) as database:
        return [row for (row,) in database.execute(query, (topic,))]


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Images of a topic by their index in order of log time: JPEG and PNG as stored, raw ones as PNG.

    Raises Unreadable where the file is gone or changed, IndexError for an image that the camera does not have.
    """
    place = _place(ref.place)
    decoder = Decoder(parse_definition(place.kind, place.definition), place.wire)
    databases: dict[int, sqlite3.Connection] = {}
    made: list[bytes] = []
    try:
        for index in indices:
            if not 0 <= index < ref.count:
                raise IndexError(f"{Path(ref.uri).name}: image {index} is outside its {ref.count}")
            file, row = place.rows[index]
            path = Path(ref.uri).with_name(place.files[file])
            try:
                if file not in databases:
                    databases[file] = open_database(path)
                found = databases[file].execute("select data from messages where id = ?", (row,)).fetchone()
                made.append(_image(decoder, place.kind, found[0] if found else b""))
            except (sqlite3.Error, UnreadableImage) as error:
                detail = f"{path.name}: the image in row {row}: {error}; copy or record the file again"
                raise Unreadable("corrupt", detail) from error
    finally:
        for database in databases.values():
            database.close()
    return made


@lru_cache(maxsize=8)
def _place(text: str) -> ImagePlace:
    return msgspec.json.decode(text, type=ImagePlace)


def _image(decoder: Decoder, kind: str, data: bytes) -> bytes:
    parts, _, why = decoder.decode(np.frombuffer(data, np.uint8), np.zeros(1, np.int64), np.array([len(data)]))
    if not parts:
        raise UnreadableImage(why or "it is not there any more")
    offset, size = parts[0].tails[0].tolist()
    columns: Mapping[str, np.ndarray] = parts[0].columns
    return encoded_image(kind, parts[0].layout, columns, 0, data[offset : offset + size])
