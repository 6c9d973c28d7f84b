"""What the pages say of the code is so: links lead somewhere, commands parse, settings, metrics, files and targets exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import options_of, parse

from chronotope.diagnosis.installation import known_variables
from model_server.metrics import ServerMetrics
from streams.metrics import WorkerMetrics

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SHELL = {"", "sh", "bash", "console"}
REPOSITORY_PATH = re.compile(
    r"\b(?:bench|docs|ops|tests|schemas|processors|streams|model_server|chronotope)/[\w./-]+\w"
)
METRIC = re.compile(r"\bchronotope_[a-z_]+[a-z]\b")
VARIABLE = re.compile(r"\bCHRONOTOPE_[A-Z_]+[A-Z]\b(?!_?\*)")
PLACEHOLDER = re.compile(r"^[A-Z_]+$|[<>…]|\.\.\.")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of every command of ours in a block of shell code, without prompts, comments, variables and what is piped."""
    for language, block in FENCE.findall(page.read_text()):
        if language not in SHELL:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s(?:\||&&|;)\s|\s[<>]\s?\S+", line.removeprefix("$ ")):
                words = shlex.split(part, comments=True) if re.match(r"\s*([A-Z_]+=\S+ )*chronotope\s", part) else []
                while words and "=" in words[0]:
                    words.pop(0)
                if words:
                    yield words[1:]


def anchor(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_page
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            headings = {anchor(line.lstrip("# ")) for line in file.read_text().splitlines() if line.startswith("#")}
            assert fragment in headings, target


@every_page
def test_commands_in_blocks_of_code_parse(page: Path) -> None:
    for words in command_lines(page):
        parse(words)


@every_page
def test_commands_in_sentences_exist_with_their_options(page: Path) -> None:
    for code in INLINE.findall(prose(page)):
        words = code.split()
        if words[:1] != ["chronotope"] or len(words) == 1 or PLACEHOLDER.search(words[1]):
            continue
        known = options_of(words[1:])
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, code


@every_page
def test_variables_are_settings(page: Path) -> None:
    others = {"CHRONOTOPE_BENCH_EVENTS"}
    assert set(VARIABLE.findall(page.read_text())) <= known_variables() | others


@every_page
def test_metrics_are_exported(page: Path) -> None:
    exported = {
        sample.name for registry in (WorkerMetrics().registry, ServerMetrics().registry)
        for family in registry.collect() for sample in family.samples
    } | {
        family.name + suffix for registry in (WorkerMetrics().registry, ServerMetrics().registry)
        for family in registry.collect() for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }  # fmt: skip
    assert set(METRIC.findall(page.read_text())) <= exported


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    for code in INLINE.findall(prose(page)):
        for path in REPOSITORY_PATH.findall(code):
            if not PLACEHOLDER.search(code):
                assert (ROOT / path).exists() or (page.parent / path).exists(), path


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [block for _, block in FENCE.findall(page.read_text())] + INLINE.findall(prose(page))
    named = [target for each in code for target in re.findall(r"^make ([a-z-]+)", each, re.MULTILINE)]
    assert set(named) <= targets


def test_readme_leads_to_every_page() -> None:
    linked = {(ROOT / target).resolve() for target in LINK.findall((ROOT / "README.md").read_text())}
    folders = {path for path in linked if path.is_dir()}
    assert [page for page in PAGES[1:] if page not in linked and page.parent not in folders] == []


def test_every_picture_is_shown_and_drawn() -> None:
    shown = {
        (page.parent / target).resolve() for page in PAGES for target in LINK.findall(page.read_text())
        if target.endswith((".png", ".svg"))
    }  # fmt: skip
    there = {path for kind in ("*.png", "*.svg") for path in (ROOT / "docs").rglob(kind)}
    assert shown == there


def test_command_that_does_not_exist_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\n$ X=1 chronotope topics aply --json | head\n```\n")
    (words,) = command_lines(page)
    assert words == ["topics", "aply", "--json"]
    with pytest.raises(Exception, match="No such command"):
        parse(words)
