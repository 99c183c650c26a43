"""Train, validation and test per duplicate component, so that near copies never straddle them.

A component joins episodes that deduplication verified to be alike (under another text too, and through members that
were not kept) and children cut out of one recording. Its split follows from a hash of the smallest content id in it
alone: data that joins no component of old moves no episode of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from beam_pipeline.curated import CuratedSet, part_dataset
from beam_pipeline.output_folder import MANIFESTS, SPLITS, OutputError
from transforms.coders import from_json, to_json
from transforms.deduplication.union_find import components
from transforms.output_files import CLUSTERS, EPISODES, LEDGER

TRAIN, VAL, TEST = "train", "val", "test"
NAMES = (TRAIN, VAL, TEST)
_GIVEN = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
"""What sets call their splits."""
_SCHEMA = pa.schema([(name, pa.string()) for name in ("episode_id", "source", "split", "component")])
_METADATA = b"demosift"


@dataclass(frozen=True)
class SplitParams:
    """Fractions of the episodes; `stratify` meets them in each source, `given` keeps splits that a set itself names."""

    val: float = 0.1
    test: float = 0.0
    seed: int = 0
    stratify: bool = False
    given: bool = False

    def __post_init__(self) -> None:
        for name in (VAL, TEST):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; need 0 <= {name} < 1")
        if self.val + self.test >= 1:
            raise ValueError(f"val {self.val} and test {self.test} leave nothing to train on; need a sum below 1")


@dataclass(frozen=True)
class Member:
    """A kept episode and the component that it belongs to, named by the smallest content id in it."""

    episode_id: str
    source: str
    component: str


@dataclass(frozen=True)
class Assigned:
    """A kept episode's split."""

    episode_id: str
    source: str
    split: str
    component: str


@dataclass(frozen=True)
class _Made:
    """How a splits file came about: the manifest that it is of, and the parameters."""

    manifest: int
    params: SplitParams


def members(curated: CuratedSet) -> list[Member]:
    """Every kept episode with its component, by source and id."""
    ledger = curated.rows(LEDGER, columns=["episode_id", "content_id", "parent_id", "outcome", "source"])
    ids, contents, parents, outcomes, sources = (column.to_pylist() for column in ledger.columns)
    # a parent is no episode; the blank keeps its name apart from those of episodes
    family = [(f" {parent}", episode) for episode, parent in zip(ids, parents, strict=True) if parent]
    root = components([*_edges(curated), *family])
    smallest: dict[str, str] = {}
    for episode, content in zip(ids, contents, strict=True):
        if content:
            group = root.get(episode, episode)
            smallest[group] = min(content, smallest.get(group, content))
    rows = zip(ids, sources, outcomes, strict=True)
    kept = [Member(e, source, smallest[root.get(e, e)]) for e, source, outcome in rows if outcome == "kept"]
    return sorted(kept, key=lambda member: (member.source, member.episode_id))


def _edges(curated: CuratedSet) -> Iterator[tuple[str, str]]:
    for path in curated.files(CLUSTERS):
        table = part_dataset(path).to_table(columns=["a", "b"])
        yield from zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)


def place(component: str, seed: int) -> float:
    """Where a component stands, uniform in [0, 1): validation takes the front, test the back."""
    return xxhash.xxh3_64_intdigest(f"{seed}:{component}".encode()) / 2**64


def given_split(episode_id: str) -> str | None:
    """The split that a set itself names, which stands before the number in an id such as `bridge/val/000003`."""
    return _GIVEN.get(episode_id.split("/")[-2].lower()) if episode_id.count("/") >= 2 else None


def assign(found: Sequence[Member], params: SplitParams) -> list[Assigned]:
    """A split for each episode, in order; all of a component's members have one."""
    groups: dict[str, list[Member]] = defaultdict(list)
    for member in found:
        groups[member.component].append(member)
    splits = _stratified(groups, params) if params.stratify else {name: _by_place(name, params) for name in groups}
    if params.given:
        splits |= _given(groups)
    return [Assigned(m.episode_id, m.source, splits[m.component], m.component) for m in found]


def _by_place(component: str, params: SplitParams) -> str:
    at = place(component, params.seed)
    return VAL if at < params.val else TEST if at >= 1 - params.test else TRAIN


def _stratified(groups: Mapping[str, Sequence[Member]], params: SplitParams) -> dict[str, str]:
    """In order of place, components go to validation until their source has its share; to test from the other end."""
    totals = Counter(member.source for group in groups.values() for member in group)
    order = sorted(groups, key=lambda name: (place(name, params.seed), name))
    splits = dict.fromkeys(groups, TRAIN)
    for split, share, walk in ((VAL, params.val, order), (TEST, params.test, order[::-1])):
        filled: Counter[str] = Counter()
        for name in walk:
            counts = Counter(member.source for member in groups[name])
            home = min(counts, key=lambda source: (-counts[source], source))
            if splits[name] == TRAIN and filled[home] + counts[home] / 2 <= share * totals[home]:
                splits[name] = split
                filled += counts
    return splits


def _naming(rows: Iterable[Member | Assigned]) -> set[str]:
    """The sources that name more than one split."""
    named: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        split = given_split(row.episode_id)
        if split:
            named[row.source].add(split)
    return {source for source, splits in named.items() if len(splits) > 1}


def _given(groups: Mapping[str, Sequence[Member]]) -> dict[str, str]:
    """Splits of components in sources that name more than one; a component in several of them is trained on."""
    naming = _naming(m for group in groups.values() for m in group)
    splits = {}
    for name, group in groups.items():
        told = {given_split(m.episode_id) for m in group if m.source in naming} - {None}
        if told:
            splits[name] = str(told.pop()) if len(told) == 1 else TRAIN
    return splits


def straddling(assigned: Sequence[Assigned]) -> dict[str, int]:
    """By source that names more than one split, how many episodes have another than the named one."""
    naming = _naming(assigned)
    moved = (a.source for a in assigned if a.source in naming and given_split(a.episode_id) not in (None, a.split))
    return dict(sorted(Counter(moved).items()))


def write_splits(curated: CuratedSet, assigned: Sequence[Assigned], params: SplitParams) -> Path:
    """`splits.parquet` of the output, whole or not at all; the same bytes for the same output and parameters."""
    made = to_json(_Made(curated.manifest.number, params))
    table = pa.Table.from_pylist([asdict(row) for row in assigned], schema=_SCHEMA)
    path = curated.folder / SPLITS
    temporary = curated.folder / MANIFESTS / f"{SPLITS}.unfinished"
    pq.write_table(table.replace_schema_metadata({_METADATA: made}), temporary, compression="zstd")
    return temporary.replace(path)


def read_splits(curated: CuratedSet) -> Mapping[str, str]:
    """Episode id -> split; raises OutputError where there is none, or it is of another run than the published one."""
    path = curated.folder / SPLITS
    if not path.exists():
        raise OutputError(f"{path} does not exist; run: python -m beam_pipeline split --output {curated.folder}")
    table = pq.read_table(path)
    made = from_json((table.schema.metadata or {}).get(_METADATA, b"null"), _Made | None)  # type: ignore[arg-type]
    if made is None:
        raise OutputError(f"{path} was not written by `split`; remove it and run that")
    found = dict(zip(table["episode_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    kept = curated.rows(EPISODES, columns=["episode_id"])["episode_id"].to_pylist()
    absent = [episode for episode in kept if episode not in found]
    if absent:
        raise OutputError(
            f"{path} is of run {made.manifest} and lacks {len(absent)} of {len(kept)} episodes of run "
            f"{curated.manifest.number}, such as {absent[0]!r}; run: python -m beam_pipeline split"
        )
    return found
