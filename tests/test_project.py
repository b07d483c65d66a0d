"""The project against itself: documents, commands, catalog, house rules, versions."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import edgepipe
from edgepipe import catalog
from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.runner import Runner
from edgepipe.stage import Options, ProgramStage, Stage

ROOT = Path(__file__).parent.parent
CODE = ("edgepipe", "converters", "quantization", "device_tests", "benchmarks", "examples", "tests")
NOT_CODE = {".git", ".venv", "out", "build", "dist"}
LONGEST = 360
"""Lines of a source file; tests, which hold many small cases, may be longer."""
LONGEST_TEST = 520
ONE_FILE = "device_tests/run_on_device.py"
"""What goes to a board: one file, so that copying one file is all that there is to do."""
DOCUMENTS = [
    *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"),
]  # fmt: skip
MACHINE_PATH = re.compile(r"(?<![\w./~$}>*-])/(tmp|root|work|opt|home/\w+)(?=/|\b)")


def project_files() -> list[Path]:
    """Tracked files and those that would be; without git, all of them."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 0:
        found = [ROOT / line for line in done.stdout.splitlines()]
    else:
        found = [path for path in ROOT.rglob("*") if not NOT_CODE & set(path.parts)]
    return sorted(path for path in found if path.is_file())


def sources() -> list[Path]:
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in CODE
    ]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# House rules


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_file_opens_with_a_sentence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "__init__.py" and not text.strip():
        return
    words = ast.get_docstring(ast.parse(text))
    assert words, f"{relative(path)} does not say what it is"
    first = words.split("\n\n", 1)[0].rstrip()
    assert first[-1] in ".:?", f"{relative(path)}: {first!r} is no sentence"


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_file_can_be_read_in_one_sitting(path: Path) -> None:
    if relative(path) == ONE_FILE:
        return
    longest = LONGEST_TEST if relative(path).startswith("tests/") else LONGEST
    assert len(path.read_text(encoding="utf-8").splitlines()) <= longest


def test_no_file_names_a_path_of_a_machine() -> None:
    this = Path(__file__)
    found = [
        f"{relative(path)}:{number}: {line.strip()[:80]}"
        for path in project_files()
        if path != this
        and path.suffix not in {".h5", ".npz", ".safetensors", ".pt", ".onnx", ".png"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line) and not line.startswith("#!")
    ]
    assert found == []


def test_committed_files_are_small() -> None:
    assert [relative(path) for path in project_files() if path.stat().st_size > 400_000] == []


# Versions


def test_version_is_the_same_everywhere() -> None:
    (declared,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert edgepipe.__version__ == declared
    assert f"## [{declared}]" in (ROOT / "CHANGELOG.md").read_text()


# The catalog


@pytest.mark.parametrize("name", catalog.STAGES)
def test_stage_keeps_its_contract(name: str) -> None:
    stage = catalog.stage(name)
    assert isinstance(stage, Stage)
    assert stage.name == name
    assert stage.sources
    assert all(isinstance(format, Format) for format in (*stage.sources, stage.target))
    if isinstance(stage, ProgramStage):
        assert stage.toolchain == "", "it runs in edgepipe itself"
    else:
        assert stage.toolchain in catalog.TOOLCHAINS
    assert stage.revision >= 1
    assert vars(stage) == {}, "a stage holds no state"


@pytest.mark.parametrize("name", catalog.STAGES)
def test_options_are_frozen_and_each_is_explained(name: str) -> None:
    options = catalog.stage(name).options
    assert issubclass(options, Options)
    made = options.from_settings({}, name)
    assert made.key() == options().key()
    for field in dataclasses.fields(options):
        assert options.names()[field.name], f"{name}.{field.name} has no help"
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)


@pytest.mark.parametrize("format", Format, ids=str)
def test_every_format_has_a_runner_that_claims_it(format: Format) -> None:
    kind = catalog.runner(format)
    assert issubclass(kind, Runner)
    assert not inspect.isabstract(kind)
    assert format in kind.formats
    assert kind.toolchain in catalog.TOOLCHAINS


def test_every_toolchain_has_its_file_and_its_lock() -> None:
    folder = ROOT / "edgepipe" / "toolchains"
    assert {path.stem for path in folder.glob("*.toml")} == set(catalog.TOOLCHAINS)
    assert {path.stem for path in folder.glob("*.lock")} == set(catalog.TOOLCHAINS)


def test_make_test_installs_every_toolchain() -> None:
    (listed,) = re.findall(r"^TOOLCHAINS := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(listed.split()) == set(catalog.TOOLCHAINS)


@pytest.mark.parametrize("name", catalog.TARGETS)
def test_target_is_reached_from_every_format_before_it(name: str) -> None:
    from edgepipe.plan import routes_between

    target = catalog.target(name)
    assert target.name == name
    assert target.precisions
    assert target.words
    assert routes_between(Format.KERAS_H5, target.format)
    assert routes_between(Format.TORCH_SOURCE, target.format)


# Commands


def root_command() -> click.Group:
    from edgepipe.cli.main import edgepipe as root

    assert isinstance(root, click.Group)
    return root


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command and sub-command."""

    def below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            yield (*words, name)
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from below(command, (*words, name))

    yield from below(root_command(), ())


def test_every_command_explains_itself() -> None:
    from click.testing import CliRunner

    for words in ((), *commands()):
        shown = CliRunner().invoke(root_command(), [*words, "--help"], prog_name="edgepipe")
        assert shown.exit_code == 0, (words, shown.output)
        assert f"Usage: {' '.join(('edgepipe', *words))}" in shown.output
        assert len(shown.output.splitlines()) > 4, f"{words}: {shown.output}"


def test_module_and_command_say_the_same_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgepipe", "--version"],
        cwd=ROOT / "tests", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert edgepipe.__version__ in done.stdout


# Documents


def shell_lines() -> list[tuple[str, str]]:
    """(document, command line) of every ```sh block; a backslash at the end joins lines."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.S | re.M):
            for line in block.replace("\\\n", " ").splitlines():
                found.append((relative(document), line.split(" #")[0].removeprefix("$ ").strip()))
    return [(document, line) for document, line in found if line and not line.startswith("#")]


def edgepipe_lines() -> list[tuple[str, list[str]]]:
    found = []
    for document, line in shell_lines():
        words = shlex.split(line)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words and Path(words[0]).name == "edgepipe":
            found.append((document, words[1:]))
    return found


def test_documents_show_commands() -> None:
    assert {document for document, _ in edgepipe_lines()} >= {"README.md"}


@pytest.mark.parametrize(("document", "words"), edgepipe_lines(), ids=lambda value: str(value)[:60])
def test_command_in_a_document_parses(document: str, words: list[str]) -> None:
    command: click.Command = root_command()
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{document}: edgepipe has no command {words[0]!r}"
        command, words = found, words[1:]
    parser = command.make_parser(click.Context(command, resilient_parsing=True))
    parser.parse_args(list(words))


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        (document, word)
        for document, line in shell_lines()
        if line.startswith("make ")
        for word in line.split()[1:]
        if not word.startswith("-") and "=" not in word
    }
    assert named
    assert {item for item in named if item[1] not in targets} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_of_a_document_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not re.match(r"[a-z]+:", link):
            assert (document.parent / link).exists(), f"{relative(document)}: {link}"


def test_files_named_in_the_documents_exist() -> None:
    """`edgepipe/x.py` and the like, in backticks."""
    tops = "|".join((*CODE, "docs"))
    for document in DOCUMENTS:
        for named in re.findall(rf"`((?:{tops})/[\w./-]+\.\w+)`", document.read_text()):
            assert (ROOT / named).exists(), f"{relative(document)}: {named}"


def test_readme_lists_every_exit_code() -> None:
    from edgepipe import errors

    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.EdgepipeError)}
    table = re.findall(r"^\| (\d) \|", (ROOT / "README.md").read_text(), re.M)
    assert {int(code) for code in table} == codes | {0}


def test_stage_of_the_document_does_what_is_said_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "adding-a-stage.md").read_text()
    (code, *_) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    example = types.ModuleType("tflite_from_onnx_frobnicate")
    monkeypatch.setitem(sys.modules, example.__name__, example)
    exec(compile(code, "docs/adding-a-stage.md", "exec"), vars(example))
    tool = types.ModuleType("frobnicate")
    vars(tool)["convert"] = lambda model, made, level: Path(made).write_text(f"{model} {level}")
    monkeypatch.setitem(sys.modules, "frobnicate", tool)

    stage = example.TfliteFromOnnxFrobnicate()
    assert stage.toolchain in catalog.TOOLCHAINS
    assert stage.name in text.split("```")[-1]
    ends = Signature((Port("x", (1, 4), "float32"),), (Port("y", (1, 4), "float32"),))
    artifact = Artifact(tmp_path / "model.onnx", Format.ONNX, "", ends)
    product = stage.run(artifact, stage.options.from_settings({"level": "3"}, "it"), tmp_path)
    assert product.path.read_text() == f"{artifact.path} 3"
    assert product.signature == ends
