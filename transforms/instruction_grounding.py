"""InstructionGroundingStage: which utterance an episode answers, and whether its gripper contradicts the verb."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from transforms.arrays import Floats, column_matrix, times_ns
from transforms.episode import Episode, Finding, InstructionStatus, Utterance, nfc
from transforms.generic_instructions import GENERIC, MIN_CONTENT_WORDS, says_nothing
from transforms.measure import measured, not_run
from transforms.schema import ACTION_GRIPPER, GRIPPER
from transforms.stage import EpisodeStage

NAME = "instruction_grounding"
STATUS = "grounding.status"
CONSISTENCY = "grounding.verb_consistency"

GRASP = frozenset(("pick", "grasp", "grab"))
RELEASE = frozenset(("place", "put", "stack", "release", "drop"))
_VERBS = re.compile(r"(?:^|[,.;:]\s*|\b(?:and|then|to|please)\s+)([a-z]+)")
_OPEN_GRIPPER = re.compile(r"\bopen(s|ing)?( up)?( the| your| its)? (gripper|hand|fingers|jaws?)\b")
_CLOSE_GRIPPER = re.compile(r"\bclos(e|es|ing)( the| your| its)? (gripper|hand|fingers|jaws?)\b")


@dataclass(frozen=True)
class InstructionGroundingParams:
    """How far before an episode an utterance may lie, what counts as saying nothing, and how sure a mismatch must be.

    `generic_patterns` are regular expressions for the whole text in lower case. Verbs are judged only in episodes of
    at least `min_duration_s`: a shorter one is likely a crop, in which the deed lies outside. `gripper_change` is the
    share of the gripper's range that counts as a movement, since a held object stops it early.

    With `embedding.text`, instructions are compared with those of the `neighbours` episodes that move most alike, in
    sources of at least `min_episodes` with text and movement.
    """

    max_gap_s: float = 10.0
    generic_patterns: tuple[str, ...] = GENERIC
    min_content_words: int = MIN_CONTENT_WORDS
    min_duration_s: float = 3.0
    gripper_change: float = 0.1
    neighbours: int = 5
    min_episodes: int = 20

    def __post_init__(self) -> None:
        for name in ("max_gap_s", "min_content_words", "min_duration_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"instruction_grounding.{name} is {getattr(self, name)}; need 0 or more")
        if not 0 < self.gripper_change <= 1:
            raise ValueError(f"instruction_grounding.gripper_change is {self.gripper_change}; need above 0, at most 1")
        if not 1 <= self.neighbours < self.min_episodes:
            raise ValueError(
                f"instruction_grounding.neighbours is {self.neighbours} and min_episodes {self.min_episodes}; "
                "need 1 <= neighbours < min_episodes"
            )
        for pattern in self.generic_patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"generic_patterns: {pattern!r} is no regular expression: {error}") from error


@dataclass(frozen=True)
class Pairing:
    """The utterance of an episode, or why there is none."""

    text: str | None
    reason: str


def is_generic(text: str, params: InstructionGroundingParams) -> bool:
    """True where a text names no deed: a stock phrase, or fewer content words than `min_content_words`."""
    return says_nothing(text, params.generic_patterns, params.min_content_words)


def _one(texts: Sequence[str], params: InstructionGroundingParams, where: str) -> Pairing:
    """The only distinct text; among several, the only one that says something."""
    distinct = {nfc(t).casefold(): t for t in reversed(texts) if nfc(t)}
    telling = {k: t for k, t in distinct.items() if not is_generic(t, params)}
    chosen = telling or distinct
    if len(chosen) > 1:
        quoted = ", ".join(repr(t) for _, t in sorted(chosen.items()))
        return Pairing(None, f"ambiguous: {len(chosen)} utterances {where}: {quoted}")
    return Pairing(next(iter(chosen.values()), None), f"utterance {where}" if chosen else f"empty utterance {where}")


def pair(
    utterances: Sequence[Utterance], start_ns: int | None, end_ns: int | None, params: InstructionGroundingParams
) -> Pairing:
    """The utterance whose interval overlaps the episode's most; else one for the whole; else the nearest before.

    Two different texts of which the lesser overlaps by more than half the greater are ambiguous, and stay unpaired.
    """
    timed = [(u, u.start_ns, u.end_ns) for u in utterances if u.start_ns is not None and nfc(u.text)]
    whole = [u.text for u in utterances if u.start_ns is None]
    if timed and start_ns is not None and end_ns is not None:
        spans = []
        for one, begin, until in timed:
            last = end_ns if until is None else until
            spans.append((min(last, end_ns + 1) - max(begin, start_ns), one))
        longest = max(length for length, _ in spans)
        if longest > 0:
            return _one([u.text for length, u in spans if 2 * length > longest], params, "in the episode's time")
        if not whole:
            return _before(timed, start_ns, params)
    if whole:
        return _one(whole, params, "for the whole episode")
    return Pairing(None, "no utterance" if not timed else "utterances have times, the episode has none")


def _before(
    timed: Sequence[tuple[Utterance, int, int | None]], start_ns: int, params: InstructionGroundingParams
) -> Pairing:
    gaps = [(start_ns - (begin if until is None else until), u) for u, begin, until in timed if begin < start_ns]
    if not gaps:
        return Pairing(None, "no utterance in or before the episode")
    nearest = min(gap for gap, _ in gaps)
    seconds = nearest / 1e9
    if seconds > params.max_gap_s:
        return Pairing(None, f"the nearest utterance lies {seconds:.6g} s before, more than {params.max_gap_s:g} s")
    return _one([u.text for gap, u in gaps if gap == nearest], params, f"{seconds:.6g} s before")


def closed_then_opened(opening: Floats, change: float) -> bool:
    """Whether (T,) anywhere falls by `change` and rises by it again, however far the gripper opens and ends."""
    before = np.maximum.accumulate(opening)
    after = np.maximum.accumulate(opening[::-1])[::-1]
    return bool((np.minimum(before, after) - opening).max() >= change)


def contradiction(text: str, opening: Floats, commanded: Floats | None, change: float) -> tuple[bool, str] | str:
    """Whether the gripper contradicts the verb, and how; where the verb or the movement tells nothing, the reason.

    opening, commanded: (T,) 0 closed to 1 open, finite. Only verbs that need the gripper are judged, where a clause
    begins with them. An episode that starts closed may be in the middle of its deed, and contradicts only an order to
    the gripper itself.
    """
    lower = nfc(text).lower()
    words = set(_VERBS.findall(lower))
    fell = float((np.maximum.accumulate(opening) - opening).max()) >= change
    rose = float((opening - np.minimum.accumulate(opening)).max()) >= change
    closes = fell or float(opening.min()) < 0.5 or (commanded is not None and float(commanded.min()) < 0.5)
    opens = rose or float(opening.max()) >= 0.5 or (commanded is not None and float(commanded.max()) >= 0.5)
    if _OPEN_GRIPPER.search(lower):
        return (not opens, "the gripper never opens")
    if _CLOSE_GRIPPER.search(lower):
        return (not closes, "the gripper never closes")
    grasping = GRASP & words
    if not grasping and not (RELEASE & words):
        return "no verb with a known movement of the gripper"
    if not closes:
        return True, f"{sorted(grasping or RELEASE & words)[0]!r}, but the gripper never closes"
    if float(opening[0]) < 0.5 and not fell:
        return "the gripper is closed from the start: the episode may begin in mid-deed"
    released = any(
        float(one[-1]) >= 0.5 or closed_then_opened(one, change) for one in (opening, commanded) if one is not None
    )
    if (RELEASE & words) and not released:
        return True, f"{sorted(RELEASE & words)[0]!r}, but the gripper never opens after it closed"
    return False, ""


def _gripper(episode: Episode, name: str) -> Floats | None:
    values = column_matrix(episode.steps, name)
    if values is None or values.shape[1] != 1 or not len(values) or not np.isfinite(values).all():
        return None
    return values[:, 0]


def consistency(episode: Episode, text: str, params: InstructionGroundingParams) -> Finding:
    """`grounding.verb_consistency`: 1 where the gripper moves as the verb needs, 0 where it contradicts it."""
    opening = _gripper(episode, GRIPPER)
    if opening is None:
        return not_run(NAME, CONSISTENCY, "no gripper opening is declared, or it has gaps", "1")
    times = times_ns(episode.steps)
    if times is None:
        return not_run(NAME, CONSISTENCY, "no timestamps: declare `rate_hz` of the embodiment", "1")
    seconds = float(times[-1] - times[0]) / 1e9
    if seconds < params.min_duration_s:
        reason = f"{seconds:.6g} s may be a crop: verbs are judged from {params.min_duration_s:g} s"
        return not_run(NAME, CONSISTENCY, reason, "1")
    judged = contradiction(text, opening, _gripper(episode, ACTION_GRIPPER), params.gripper_change)
    if isinstance(judged, str):
        return not_run(NAME, CONSISTENCY, judged, "1")
    return measured(NAME, CONSISTENCY, 0.0 if judged[0] else 1.0, "1", detail=judged[1] if judged[0] else "")


def ground(episode: Episode, params: InstructionGroundingParams) -> Episode:
    """The episode with its instruction, as the source wrote it, its status and the findings of both checks."""
    paired = pair(episode.utterances, episode.start_ns, episode.end_ns, params)
    status: InstructionStatus
    if paired.text is None:
        status = "missing"
        judged = not_run(NAME, CONSISTENCY, "no instruction", "1")
    elif is_generic(paired.text, params):
        status = "generic"
        judged = not_run(NAME, CONSISTENCY, "the instruction names no deed", "1")
    else:
        judged = consistency(episode, paired.text, params)
        status = "mismatch" if judged.value == 0.0 else "matched"
    detail = f"{status}: {paired.reason}"
    found = measured(NAME, STATUS, 1.0 if status == "matched" else 0.0, "1", detail=detail)
    grounded = replace(episode, instruction=paired.text, instruction_status=status)
    return grounded.with_findings(found, judged)


class InstructionGroundingStage(EpisodeStage):
    """Pairs each episode with its utterance; the text is never changed.

    Swapped instructions of the same verb (another object) cannot be seen from the gripper and read as matched;
    `instruction_agreement` compares episodes with one another.
    """

    name = NAME

    def __init__(self, params: InstructionGroundingParams) -> None:
        super().__init__()
        self._params = params

    def process_element(self, element: Episode) -> Iterable[Episode]:
        return [ground(element, self._params)]
