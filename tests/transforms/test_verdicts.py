"""The table of verdicts: what is read, and each line that cannot be followed by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from transforms.evidence import LedgerRow
from transforms.verdicts import Verdict, VerdictError, check_verdicts, read_verdicts

HEAD = "episode_id,verdict,who,why\n"


def read(folder: Path, text: str) -> dict[str, Verdict]:
    path = folder / "verdicts.csv"
    path.write_text(text, encoding="utf-8")
    return read_verdicts(path)


def test_columns_in_any_order_quotes_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = (
        '\ufeffwhy,episode_id,verdict,who\r\n"fast, but ""good""",a/1,keep,Ann\r\n\r\nwrong cube , a/2 ,reject,Bob\r\n'
    )
    found = read(tmp_path, text)
    place = str(tmp_path / "verdicts.csv")
    assert found == {
        "a/1": Verdict("a/1", "keep", "Ann", 'fast, but "good"', f"{place}:2"),
        "a/2": Verdict("a/2", "reject", "Bob", "wrong cube", f"{place}:4"),
    }
    assert read(tmp_path, HEAD) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "verdicts.csv:1: the file is empty; its first line is episode_id,verdict,who,why"),
        (
            "episode_id,verdict,who\n",
            "verdicts.csv:1: the columns are episode_id, verdict, who; need episode_id, verdict",
        ),
        (HEAD + "a,keep,Ann,x,y\n", "verdicts.csv:2: the line has 5 fields, the header 4; quote text"),
        (HEAD + "a,Keep,Ann,x\n", "verdicts.csv:2: verdict is 'Keep'; use keep or reject"),
        (HEAD + "a,keep,Ann,\n", "verdicts.csv:2: why is empty; a verdict says which episode, what, who and why"),
        (HEAD + ",keep,Ann,x\n", "verdicts.csv:2: episode_id is empty"),
        (HEAD + 'a,keep,Ann,"x\n', "verdicts.csv:2: not CSV: unexpected end of data"),
        (HEAD + "a,keep,Ann,x\na,reject,Bob,y\n", "verdicts.csv:3: 'a' has a verdict at"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(VerdictError) as raised:
        read(tmp_path, text)
    assert message in str(raised.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match=r"absent.csv: cannot read the verdicts: .*No such file"):
        read_verdicts(tmp_path / "absent.csv")


def test_unknown_ids_are_errors_unless_an_earlier_run_had_them(tmp_path: Path) -> None:
    lines = "".join(f"s/{n:03d},keep,Ann,x\n" for n in range(9))
    found = read(tmp_path, HEAD + lines)
    stale = check_verdicts(found, ["s/000"], {}, {f"s/{n:03d}": "s" for n in range(1, 9)})
    assert [verdict.episode_id for verdict in stale] == [f"s/{n:03d}" for n in range(1, 9)]
    with pytest.raises(VerdictError) as raised:
        check_verdicts(found, ["s/000"], {}, {})
    said = str(raised.value).splitlines()
    assert "verdicts.csv:3: no episode is 's/001'; did you mean 's/000'?" in said[0]
    assert len(said) == 6 and said[-1] == "and 3 more"


def test_what_has_no_steps_cannot_be_kept_but_may_be_rejected(tmp_path: Path) -> None:
    lost = {"a": LedgerRow("a", "s", "quarantined", rule="truncated", detail="3 B")}
    assert check_verdicts(read(tmp_path, HEAD + "a,reject,Ann,x\n"), [], lost, {}) == []
    with pytest.raises(VerdictError, match=r"'a' cannot be kept, it was quarantined \(truncated: 3 B\); there are no"):
        check_verdicts(read(tmp_path, HEAD + "a,keep,Ann,x\n"), [], lost, {})
    cut = {"a": LedgerRow("a", "s", "cut", n_children=3)}
    with pytest.raises(VerdictError, match=r"'a' was cut into 3 parts, and each is decided for itself; name them"):
        check_verdicts(read(tmp_path, HEAD + "a,reject,Ann,x\n"), [], cut, {})
