"""The error of an input that cannot be read; apart from all else, since the decoding child needs nothing of Arrow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Why an input cannot be read: `rule` is a stable code (`truncated`, `declared_absent`), `detail` is for people."""

    rule: str
    detail: str


class Unreadable(Exception):
    """An input that cannot be read: quarantined under `rule`, a stable code such as `truncated`.

    The message says the value, the limit, the place and the remedy, for people.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(rule, detail)

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str, str]]:
        return Unreadable, (self.problem.rule, self.problem.detail)
