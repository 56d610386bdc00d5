"""The documentation is true: its commands, settings, links and code exist and run, and its reference is current."""

import itertools
import re
import subprocess
import sys
import tomllib

import pytest
from pages import PAGES, ROOT, alseg_commands, anchors, blocks, commands, links, name_of

from stages.datasets.description import load_description
from stages.networks.foreign.tables import load_source
from stages.recipes.plan import Plan, check_settings, parse_overrides
from stages.recipes.profile import load_profile
from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import resolve
from stages.registry import STAGES
from tests.reference.commands import tools
from tests.reference.files import PAGES as GENERATED
from tests.reference.files import ROOT as REPOSITORY
from tests.reference.files import stale, wanted, with_table

PLUG_INS, DEVELOPING = ROOT / "docs" / "how-to" / "plug-ins.md", ROOT / "docs" / "developing.md"
RUN = (PLUG_INS, DEVELOPING)  # pages with plug-ins, whose commands are run instead of read
READ = [page for page in PAGES if page not in RUN and page.parent.name != "reference"]
CALLS = [(name_of(page), " ".join(words)) for page in READ for words in alseg_commands(page)]


def options_of(command):
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


# --- the generated pages ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated():
    return wanted(REPOSITORY)


def test_the_generated_pages_are_current(generated):
    assert [name_of(path) for path in stale(generated)] == [], "run `make docs`"


def test_the_generator_says_the_same_in_another_process(generated):
    code = "from tests.reference.files import *; print([text for text in wanted(ROOT).values()])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told == f"{list(generated.values())}\n"
    assert "<function" not in told
    assert " at 0x" not in told
    assert str(ROOT) not in told


def test_check_names_what_is_not_current(tmp_path, generated):
    texts = {tmp_path / path.relative_to(REPOSITORY): text for path, text in generated.items()}
    (tmp_path / "README.md").write_text("<!-- commands:begin -->\nold\n<!-- commands:end -->\n")
    found = [path.relative_to(tmp_path).as_posix() for path in stale(texts)]
    assert sorted(found) == sorted(
        [*(f"docs/reference/{name}.md" for name in GENERATED), "README.md", "docs/reproduce.md"]
    )
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert stale(texts) == []
    with pytest.raises(SystemExit, match="commands:begin"):
        with_table("no markers")


def test_every_stage_setting_and_part_is_in_the_reference():
    from stages.registry import SETTINGS
    from stages.runtime.parts import REGISTRIES
    from stages.settings.base import fields_of

    texts = {name: page() for name, page in GENERATED.items()}
    for name, model in SETTINGS.items():
        section = texts["settings"].partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert all(f"| `{setting.replace('_', '-')}`" in section for setting in fields_of(model)), name
    for registry in REGISTRIES.values():
        assert registry.names(), registry.kind
        assert all(f"| `{part.name}` |" in texts["parts"] for part in registry.parts() if part.origin is None)
    assert all(f"### {name}\n" in texts["commands"] for name in STAGES)


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    faults = []
    for file, anchor in links(page.read_text(encoding="utf-8")):
        target = (page.parent / file).resolve() if file else page
        if not target.is_file():
            faults.append(file)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            faults.append(f"{file}#{anchor}")
    assert not faults


def test_every_page_is_reached_from_the_index():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        found = {(page.parent / file).resolve() for file, _ in links(page.read_text(encoding="utf-8")) if file}
        waiting += [path for path in found - reached if path.suffix == ".md"]
    assert [name_of(page) for page in PAGES if page not in reached] == []


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page, line", CALLS, ids=lambda value: value)
def test_commands_and_options_exist_and_apply(page, line):
    """Every option exists; those of a stage also apply together, with the values as written."""
    from alseg_cli.options import stage_command

    name, *words = line.split()
    around = {command.name: command for command in tools()}
    assert name in STAGES or name in around, name
    command = around.get(name) or stage_command(STAGES[name], [])
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in options_of(command), word
    if STAGES.get(name) is None or STAGES[name].settings is None or "$" in line or ".toml" in line:
        return
    types = {option: each for each in command.params for option in (*each.opts, *each.secondary_opts)}
    given = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--") and types[word].name not in ("plugin", "output"):
            flag = bool(types[word].secondary_opts)
            given[types[word].name] = word in types[word].opts if flag else following
    recipe, profile = given.pop("recipe", None), given.pop("profile", None)
    from stages.settings.base import fields_of

    known = fields_of(STAGES[name].settings)
    resolve(name, {key: value for key, value in given.items() if key in known}, recipe, profile)


PLANS = [(page, line) for page, line in CALLS if line.startswith("plan ") and "$" not in line and ".toml" not in line]


@pytest.mark.parametrize("page, line", PLANS, ids=lambda value: value)
def test_plans_name_recipes_profiles_and_settings_that_apply(page, line):
    _, *words = line.split()
    pairs = list(zip(words, [*words[1:], ""], strict=True))
    *recipes, _ = itertools.takewhile(lambda word: not word.startswith("-"), words)
    profile = next((value for word, value in pairs if word == "--profile"), None)
    for recipe in map(load_recipe, [*recipes, *(value for word, value in pairs if word == "--full")]):
        overrides = parse_overrides(recipe, [value for word, value in pairs if word == "--set"])
        check_settings(Plan(recipe, load_profile(profile), overrides, {}))


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_make_targets_exist(page):
    targets = {words[1] for words in commands(page) if words[0] == "make" and not words[1].startswith("-")}
    makefile = (ROOT / "Makefile").read_text()
    assert [each for each in targets if not re.search(rf"^{each}:", makefile, re.M)] == []


# --- code -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_commands(preloaded, tmp_path):
    """Runs calls of the program one after the other, on smaller scenes and cut short, and returns what they say."""
    shorter = {"prepare": ["--scale", "0.5"], "train": ["--epochs", "1"]}

    def run(lines):
        lines = [[*words, *shorter.get(words[0], [])] for words in lines]
        done = [preloaded.run(*words, cwd=tmp_path, shard_images=None).expect(0) for words in lines]
        return "".join(each.out for each in done)

    return run


@pytest.mark.slow
def test_the_page_of_the_library_runs(tmp_path, preloaded):
    page = tmp_path / "page.py"
    page.write_text("\n".join(blocks((ROOT / "docs" / "library.md").read_text(), "python")))
    out = preloaded.run(cwd=tmp_path, program=page, shard_images=None).expect(0).out
    assert "Unknown rule 'best'" in out
    assert "wrote region-annotations.h5" in out


@pytest.mark.slow
def test_the_page_of_plug_ins_runs(tmp_path, run_commands):
    text = PLUG_INS.read_text()
    for block in blocks(text, "python"):
        (tmp_path / re.match(r"# (\w+\.py)\n", block)[1]).write_text(block)
    recipe, project = blocks(text, "toml")
    assert len(recipe.splitlines()) == 4
    assert "alseg.measures" in tomllib.loads(project)["project"]["entry-points"]
    (tmp_path / "gini.toml").write_text(recipe)
    run_commands(alseg_commands(PLUG_INS))
    assert "--measure" not in (tmp_path / "gini.mk").read_text().replace("--measure random", "")


@pytest.mark.slow
def test_a_measure_is_added_as_developing_says(tmp_path, run_commands):
    (measure,) = blocks(DEVELOPING.read_text(), "python")
    (recipe,) = blocks(DEVELOPING.read_text(), "toml")
    (tmp_path / "my_measure.py").write_text(measure)
    (tmp_path / "my_recipe.toml").write_text(recipe)
    first, *later = alseg_commands(PLUG_INS)[:5]
    assert later[-1][-1] == "model.safetensors"
    lines = [first, *later[:-1], [*later[-1][:-1], "model-0.safetensors"], *alseg_commands(DEVELOPING)]
    assert len(recipe.splitlines()) == 4
    assert "wrote mine.h5: gini" in run_commands(lines)


@pytest.mark.slow
def test_the_first_run_runs(tmp_path, run_commands):
    """All of it but the runs of the Makefiles."""
    page = ROOT / "docs" / "tutorial" / "first-run.md"
    out = run_commands([words for words in alseg_commands(page) if words[0] not in ("compare", "report")])
    for said in re.findall(r"prints `((?:queries|rebuilding)[^`]*)`", page.read_text()):
        assert said in out, said
    assert (tmp_path / "picked.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "pixelpick.mk").read_text().count("evaluate") >= 3


def test_datasets_profiles_and_recipes_on_the_pages_are_valid(tmp_path):
    dataset, images, shapes, archives, profile = blocks((ROOT / "docs" / "how-to" / "own-data.md").read_text(), "toml")
    recipe, resources = blocks((ROOT / "docs" / "how-to" / "makefiles-and-clusters.md").read_text(), "toml")
    (source,) = blocks((ROOT / "docs" / "how-to" / "published-models.md").read_text(), "toml")
    mine = dataset + images + archives.replace("...", "0" * 64)
    for name, text in (
        ("mine", mine),
        ("meadow", shapes),
        ("profile", profile),
        ("recipe", recipe),
        ("cluster", f'title = "mine"\n{resources}'),
        ("source", source),
    ):
        (tmp_path / f"{name}.toml").write_text(text)
    assert load_description(str(tmp_path / "mine.toml")).class_names == ["road", "car"]
    assert load_description(str(tmp_path / "mine.toml")).archives[0].name == "mine.tar.gz"
    assert load_description(str(tmp_path / "meadow.toml")).masks.rest == "void"
    assert load_profile(str(tmp_path / "profile.toml")).rounds == 5
    assert load_profile(str(tmp_path / "cluster.toml")).needs("train", True).gpus == 4
    assert load_recipe(str(tmp_path / "recipe.toml")).settings["score"]["measure"] == "entropy"
    assert load_source(str(tmp_path / "source.toml")).renamed("encoder.layer2_x") == "backbone.layer2.x"


# --- rooms ------------------------------------------------------------------------------------------------------------


def test_the_rooms_of_developing_are_the_rooms_of_the_house():
    from test_structure import ROOMS

    (block, *_) = blocks((ROOT / "docs" / "developing.md").read_text(), "text")
    told = re.findall(r"^  (\w+)/? ", block, re.M)
    folders = {path.name for path in (ROOT / "stages").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert {*told} >= folders
    order = [room for room in reversed(ROOMS) if room in told]
    assert [room for room in told if room in ROOMS] == order
