"""Every VLM that is listed keeps the contract; one joins by name, by file and by entry point."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import configure
from test_registry import install, site
from test_train import go
from test_vlm_agents import configured
from vlm_models import noise, prompt, random_folder

from analysis.rows.stand_ins import stand_ins
from covr.vlm.base import FinetuneSettings, Samples, VLMOptions
from covr.vlm.grammar import STATUSES
from covr.vlm.open import is_stand_in, label, open_model, open_prior, vlm_names, vlm_spec
from covr_bench.config import registry
from covr_bench.kit.errors import UserError
from results.store import read_run
from suites.base import Budget

__all__ = ["site"]  # the fixture
EXAMPLE = str(Path(__file__).parents[1] / "examples" / "vlm_plugin.py")
LISTED = [*vlm_names(), EXAMPLE, str(random_folder())]
IDS = [*vlm_names(), "example", "folder"]
QUICK = FinetuneSettings(rank=2, epochs=1, batch_size=4, heldout=0.0, lr=0.01)
PLUGIN = """
from covr.vlm.base import VLMSpec
from covr.vlm.scripted import ScriptedPrior
opened = []
def make(options):
    opened.append(options)
    return ScriptedPrior(name={name!r})
VLM = VLMSpec({name!r}, make, stand_in={stand_in}, doc="For a test.")
"""


def opened(ref: str) -> Any:
    return open_prior(ref, settings=QUICK, seed=3)


def test_ours_are_named_as_their_modules() -> None:
    assert {"tiny", "scripted"} <= set(vlm_names())
    assert [vlm_spec(name).name for name in vlm_names()] == vlm_names()


@pytest.mark.parametrize("ref", LISTED, ids=IDS)
@pytest.mark.parametrize(("action_dim", "frames"), [(1, 1), (3, 1), (2, 2)])
def test_each_image_gets_one_answer(ref: str, action_dim: int, frames: int) -> None:
    images = noise(3) if frames == 1 else np.stack([noise(3), noise(3)], 1)
    answers = opened(ref).propose(images, prompt(action_dim))
    assert answers.actions.shape == (3, action_dim) and answers.actions.dtype == np.float32
    assert answers.valid.shape == (3,) and answers.valid.dtype == np.bool_
    assert len(answers.texts) == len(answers.statuses) == 3 and set(answers.statuses) <= set(STATUSES)
    assert [status == "ok" for status in answers.statuses] == answers.valid.tolist()
    assert (np.abs(answers.actions) <= 1).all() and not answers.actions[~answers.valid].any()
    assert answers.seconds >= 0


@pytest.mark.parametrize("ref", LISTED, ids=IDS)
def test_wrong_images_are_refused(ref: str) -> None:
    vlm = opened(ref)
    for images in (noise(1)[0], noise(2).astype(np.float32), noise(2).transpose(0, 3, 1, 2), noise(2)[:0]):
        with pytest.raises(UserError, match="images"):
            vlm.propose(images, prompt())


@pytest.mark.parametrize("ref", LISTED, ids=IDS)
def test_what_it_says_of_itself_is_json(ref: str) -> None:
    facts = json.loads(json.dumps(dict(opened(ref).describe())))
    assert {"name", "decode", "parameters", "stand_in"} <= set(facts)
    assert facts["stand_in"] == is_stand_in(ref)


@pytest.mark.parametrize("ref", LISTED, ids=IDS)
def test_what_was_tuned_is_saved_and_taken_up_and_what_cannot_be_says_so(ref: str, tmp_path: Path) -> None:
    vlm, again = opened(ref), opened(ref)
    samples = Samples(noise(8), np.linspace(-0.5, 0.75, 16, dtype=np.float32).reshape(8, 2), np.ones(8, np.float32))
    if not vlm.tunable:
        for call in (lambda: vlm.finetune(samples, prompt()), lambda: vlm.save_adapter(tmp_path)):
            with pytest.raises(UserError):
                call()
        return
    with pytest.raises(UserError, match="no samples"):
        vlm.finetune(_none(), prompt())
    report = vlm.finetune(samples, prompt())
    assert report.samples == 8 and report.steps >= 1 and np.isfinite([report.loss, report.first_loss]).all()
    vlm.save_adapter(tmp_path / "adapter")
    again.load_adapter(tmp_path / "adapter")
    given, taken = vlm.propose(noise(4), prompt()), again.propose(noise(4), prompt())
    assert given.texts == taken.texts and np.array_equal(given.actions, taken.actions)
    with pytest.raises(UserError, match="absent"):
        opened(ref).load_adapter(tmp_path / "absent")


def _none() -> Any:
    """No samples: an object, since `Samples` itself refuses to be empty."""
    return type("NoSamples", (), {"__len__": lambda self: 0})()


def plugin(folder: Path, name: str = "theirs", stand_in: bool = False) -> Path:
    path = folder / f"{name}_vlm.py"
    path.write_text(PLUGIN.format(name=name, stand_in=stand_in))
    return path


def test_one_joins_by_file_and_is_opened_with_what_the_agent_asks_for(tmp_path: Path, monkeypatch: Any) -> None:
    path = plugin(tmp_path)
    monkeypatch.chdir(tmp_path)
    spec = vlm_spec("theirs_vlm.py")
    assert (
        open_prior(str(path), decode="expect", device="cuda:1", settings=QUICK, seed=5).describe()["name"] == "theirs"
    )
    assert spec.name == "theirs" and not is_stand_in(str(path))
    seen: list[VLMOptions] = []

    def make(options: VLMOptions) -> Any:
        seen.append(options)
        return spec.make(options)

    monkeypatch.setattr("covr.vlm.open.vlm_spec", lambda ref: replace(spec, make=make))
    open_prior(str(path), decode="expect", device="cuda:1", settings=QUICK, seed=5)
    assert seen == [VLMOptions("expect", "cuda:1", QUICK, 5)]


def test_one_joins_by_entry_point(site: Path, cli: Callable[..., Any]) -> None:
    plugin(site)
    install(site, "vlms", "theirs", "theirs_vlm:VLM")
    assert vlm_names()[-1] == "theirs"
    assert open_prior("theirs").describe()["name"] == "theirs"
    assert label("theirs") == "theirs"
    listing = cli("list", "vlms")
    assert listing.code == 0
    for text in ("tiny", "scripted", "theirs", "For a test."):
        assert text in listing.out


def test_names_that_are_taken_are_refused(site: Path) -> None:
    path = plugin(site, "tiny")
    with pytest.raises(UserError, match=r"calls its vlm 'tiny', and there is another vlm of that name"):
        open_prior(str(path))
    install(site, "vlms", "tiny", "tiny_vlm:VLM")
    with pytest.raises(UserError, match=r"two vlms are called 'tiny': covr/vlm/tiny.py and tiny_vlm:VLM of other"):
        vlm_names()


def test_a_file_without_a_vlm_says_how_it_should_end(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("VLM = 3\n")
    with pytest.raises(
        UserError, match=r"is a int; it should be VLM = VLMSpec\(\.\.\.\), see covr\.vlm\.base\.VLMSpec"
    ):
        open_prior(str(tmp_path / "empty.py"))


@pytest.mark.parametrize("name", ["tinny", "Qwen2.5-VL-3B-Instruct", "a/b/c"])
def test_what_is_neither_a_name_nor_a_folder_nor_a_hub_id_names_the_valid_ones(name: str) -> None:
    with pytest.raises(UserError, match=rf"unknown VLM '{name}'.*scripted, tiny.*OWNER/NAME.*openai:URL"):
        open_prior(name)


def test_rows_are_marked_with_the_name_and_a_stand_in_as_such(tmp_path: Path) -> None:
    assert label("tiny") == "tiny" and label("scripted") == "scripted"
    assert label(str(plugin(tmp_path))) == "theirs"
    assert label(str(plugin(tmp_path, "pretend", stand_in=True))) == "stand-in:pretend"
    assert label("Qwen/Qwen2.5-VL-3B-Instruct") == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert label(str(random_folder())) == "tiny"
    (tmp_path / "tiny").mkdir()
    assert label(str(tmp_path / "tiny")) == "folder:tiny"
    assert label("openai:http://x/v1#a=b,c") == "server:a_b_c"
    assert [word for word, _ in stand_ins("vlm=stand-in:pretend,render=fast")] == ["stand-in VLM", "fast rendering"]
    assert stand_ins("vlm=theirs") == []


def test_an_agent_that_needs_a_model_refuses_a_rule(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vpf needs gradients, which .*theirs_vlm.py' does not give"):
        open_model(str(plugin(tmp_path)), "vpf needs gradients")


def test_a_file_is_known_by_its_whole_path(monkeypatch: Any) -> None:
    monkeypatch.chdir(Path(EXAMPLE).parent)
    suite, spec = registry.suite("catch"), registry.agent("vbe")
    (config,) = configure(
        suite, "catch", {"vbe": spec}, Budget("b", 10, 10, 1), tasks=["catch"], overrides={"vlm": "vlm_plugin.py"}
    )
    assert config.agent_config["vlm"] == EXAMPLE


def test_the_example_plays_catch(tmp_path: Path) -> None:
    config = configured(tmp_path, "vbe", vlm=EXAMPLE, query_every="2", env_steps=80, vlm_image_size="32")
    go(config, registry.agent("vbe"))
    rows = read_run(config.out, config.run_id).query("kind == 'episode' and metric == 'return'")
    assert rows["value"].min() > 50  # the best is 60


def test_it_can_be_asked_from_the_command_line(cli: Callable[..., Any]) -> None:
    result = cli("vlm", "ask", "--suite", "catch", "--task", "catch", "--frame", "1", "--vlm", EXAMPLE)
    assert result.code == 0, result.err
    assert "VLM red-ball: a stand-in for a real model" in result.out and "Action: [" in result.out


ANSWERS = """
import numpy as np
from covr.vlm.base import Proposals, VLMSpec
from covr.vlm.scripted import ScriptedPrior

class Odd:
    tunable = False
    finetune = save_adapter = load_adapter = reset_adapter = lambda self, *given: None

    def describe(self):
        return {{"name": "odd", "decode": "rule", "parameters": 0, "stand_in": False}}

    def propose(self, images, prompt):
        B, A = len(images), prompt.action_dim
        good = Proposals(np.zeros((B, A), np.float32), np.ones(B, bool), ("x",) * B, ("ok",) * B, 0.1)
        return {answer}

VLM = VLMSpec("odd", {make})
"""


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("None", r"VLM odd: propose gave a NoneType, and no Proposals; see covr.vlm.base.Proposals"),
        ("replace(good, actions=np.zeros((B, A)))", r"its actions are float64 \(3, 2\), for float32 \(3, 2\)"),
        ("replace(good, actions=np.zeros((1, 5), np.float32))", r"its actions are float32 \(1, 5\)"),
        ("replace(good, actions=good.actions + np.nan)", r"it calls \[nan, nan\] a valid action"),
        ("replace(good, actions=good.actions + 7)", r"it calls \[7.0, 7.0\] a valid action; .* in \[-1, 1\]"),
        ("replace(good, valid=[1] * B)", r"valid is int64 \(3,\) with 3 texts, for bool \(3,\)"),
        ("replace(good, texts=())", r"with 0 texts"),
        ("replace(good, statuses=('fine',) * B)", r"its statuses hold \['fine'\], which are none of ok, "),
        ("replace(good, valid=good.valid & False)", r"statuses are not 'ok' where valid is True, and nowhere else"),
        ("replace(good, seconds=None)", r"VLM odd: its seconds are None, and no finite number"),
        ("replace(good, seconds=float('nan'))", r"its seconds are nan, and no finite number"),
        (
            "replace(good, variance=np.zeros((B, 5), np.float32))",
            r"its variance is float32 \(3, 5\), for float32 \(3, 2",
        ),
        ("replace(good, variance=good.actions - 1)", r"variance of a valid answer is \[-1.0, -1.0\]; it is finite and"),
        ("replace(good, variance=good.actions + np.inf)", r"the variance of a valid answer is \[inf, inf\]"),
        ("replace(good, valid_mass=np.zeros(1, np.float32))", r"its valid_mass is float32 \(1,\), for float32 \(3,\)"),
        ("replace(good, valid_mass=good.actions[:, 0] - 1)", r"the valid_mass of a valid answer is -1.0"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_named(answer: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text("from dataclasses import replace" + ANSWERS.format(answer=answer, make="lambda options: Odd()"))
    with pytest.raises(UserError, match=complaint):
        opened(str(file)).propose(noise(3), prompt(2))


def test_a_masked_row_may_hold_anything_and_the_rest_is_the_vlms_own(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    masked = "replace(good, actions=good.actions + np.nan, valid=good.valid & False, statuses=('no_match',) * B, "
    masked += "variance=good.actions + np.nan, seconds=np.float32(1))"
    file.write_text("from dataclasses import replace" + ANSWERS.format(answer=masked, make="lambda options: Odd()"))
    odd = opened(str(file))
    assert not odd.propose(noise(3), prompt(2)).valid.any()
    file.write_text(file.read_text().replace("valid=good.valid & False", "valid=[False] * B"))
    assert isinstance(opened(str(file)).propose(noise(3), prompt(2)).valid, np.ndarray)
    assert (odd.tunable, odd.describe()["name"]) == (False, "odd")
    assert copy.deepcopy(odd).describe() == odd.describe()


def test_one_that_is_tuned_without_a_report_is_named(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    text = ANSWERS.replace("tunable = False", "tunable = True")
    file.write_text(text.format(answer="good", make="lambda options: Odd()"))
    with pytest.raises(UserError, match="VLM odd: finetune gave a NoneType, and no FinetuneReport"):
        opened(str(file)).finetune(None, prompt(2))


def test_a_vlm_that_cannot_be_tuned_needs_only_to_answer(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    text = ANSWERS.replace("finetune = save_adapter = load_adapter = reset_adapter = lambda self, *given: None", "")
    file.write_text(text.format(answer="good", make="lambda options: Odd()"))
    odd = opened(str(file))
    odd.reset_adapter()
    assert odd.propose(noise(3), prompt(2)).valid.all()
    with pytest.raises(UserError, match="VLM odd cannot be tuned: it has no load_adapter"):
        odd.load_adapter(tmp_path)
    file = tmp_path / "tuned.py"
    file.write_text(text.replace("tunable = False", "tunable = True").format(answer="good", make="lambda _: Odd()"))
    with pytest.raises(UserError, match="makes a Odd, which has no finetune, save_adapter, load_adapter, reset"):
        opened(str(file))


def test_a_model_made_of_ours_stays_one(tmp_path: Path) -> None:
    file = tmp_path / "grown.py"
    file.write_text(
        "from covr.vlm.base import VLMSpec\nfrom covr.vlm.hf import HFPrior\n"
        "class Grown(HFPrior):\n    __init__ = lambda self: None\n"
        "VLM = VLMSpec('grown', lambda options: Grown())\n"
    )
    assert type(open_model(str(file), "vpf needs it")).__name__ == "Grown"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        ("lambda options: None", r"VLM odd makes a NoneType, which has no tunable, describe, propose"),
        (
            "lambda options: 1 / 0",
            r"VLM odd cannot be made: ZeroDivisionError: division by zero \(.*odd.py, line [0-9]+\)",
        ),
        ("None", r"bad value in VLM = VLMSpec\(...\) of .*odd.py: make = None: Input should be callable"),
    ],
)
def test_a_vlm_that_cannot_be_made_is_named(make: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(ANSWERS.format(answer="good", make=make))
    with pytest.raises(UserError, match=complaint):
        opened(str(file))


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ('{{"name": "odd", "parameters": 0}}', r"VLM odd: its describe\(\) gives no decode, stand_in; see"),
        ("None", r"VLM odd, what its describe\(\) gives, makes a NoneType"),
        ("1 / 0", r"VLM odd, what its describe\(\) gives, cannot be made: ZeroDivisionError"),
    ],
)
def test_a_vlm_that_does_not_say_what_it_is_is_refused(facts: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    promised = '{{"name": "odd", "decode": "rule", "parameters": 0, "stand_in": False}}'
    file.write_text(ANSWERS.replace(promised, facts).format(answer="good", make="lambda options: Odd()"))
    with pytest.raises(UserError, match=complaint):
        opened(str(file))


@pytest.mark.parametrize("stored", ['{"rounds": 1, "sh', "[]", '{"rounds": 1}'])
def test_a_rule_refuses_a_damaged_adapter(stored: str, tmp_path: Path) -> None:
    (tmp_path / "scripted.json").write_text(stored)
    with pytest.raises(UserError, match=r"scripted.json is damaged: take that of an earlier round"):
        opened("scripted").load_adapter(tmp_path)
