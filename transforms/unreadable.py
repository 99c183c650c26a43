"""The error of an input that cannot be read; apart from the stages, since readers need nothing of Beam."""

from __future__ import annotations

from transforms.episode import Problem


class Unreadable(Exception):
    """An input that cannot be read: quarantined under `rule`, a stable code such as `truncated`.

    The message says the value, the limit, the place and the remedy, for people.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(rule, detail)

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str, str]]:
        return Unreadable, (self.problem.rule, self.problem.detail)
