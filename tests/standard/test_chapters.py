"""Every chapter against the standard; what does not meet it yet stands in `not_yet.toml`, which only shrinks."""

from pathlib import Path

import pytest

from tests.standard.chapter import book
from tests.standard.debt import CHECKS, RENEW, counts, differences, faults, listed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chapters():
    return book(ROOT)


def test_the_list_knows_the_checks_and_the_chapters(chapters):
    names = {chapter.name for chapter in chapters}
    assert len(names) == len(chapters) > 25
    assert set(listed()) <= set(CHECKS)
    assert {name for each in listed().values() for name in each} <= names


@pytest.mark.parametrize("check", CHECKS)
def test_every_chapter_meets_the_standard_or_is_listed(check, chapters):
    found, wrong = faults(check, chapters), []
    for name, now, then in differences(counts(found), listed().get(check, {})):
        if now > then:
            wrong.append("\n    ".join([f"{name}: {now}, the list allows {then}:", *found[name]]))
        else:
            wrong.append(f"{name}: {now}, the list still has {then}: run `{RENEW}`")
    assert not wrong, "\n".join([check, *wrong])
