"""The glossary has the words that it must have, and names only what exists in the code."""

import importlib
import re

import pytest

from factories import PROJECT
from imageapi.database.tables import metadata

GLOSSARY = (PROJECT / "docs/glossary.md").read_text()
ROWS = {
    row[0].strip(): row[2]
    for row in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", GLOSSARY, re.MULTILINE)
}
NAMES = re.findall(r"`imageapi\.([\w.]+)\.(\w+)`", GLOSSARY)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_name_in_the_glossary_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"imageapi.{module}"), name)


@pytest.mark.parametrize(("column", "tables"), re.findall(r"column `(\w+)` of ([^|,]+)", GLOSSARY))
def test_every_column_in_the_glossary_exists(column: str, tables: str) -> None:
    for table in re.findall(r"`(\w+)`", tables):
        assert column in metadata.tables[table].c


@pytest.mark.parametrize(
    "word",
    ["album", "image", "record", "rendition", "queue", "claim", "event", "version", "ability"],
)
def test_glossary_explains_the_words_of_the_project(word: str) -> None:
    assert "`" in ROWS[word]
