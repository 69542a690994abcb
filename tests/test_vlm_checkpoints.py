"""A checkpoint that is incomplete, damaged or set otherwise is refused in one line, or read as its settings say."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from vlm_families import FAMILIES, build, folder
from vlm_models import noise, prompt, random_folder, speaking_folder

from covr.vlm import checkpoint
from covr.vlm.families.processing import check_sizes
from covr.vlm.families.spelling import FORMS, Spelling
from covr.vlm.hf import HFPrior
from covr.vlm.images import patches
from covr.vlm.open import open_prior
from covr_bench.kit.errors import UserError


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder("llava"), tmp_path / "model"))


def without_a_layer(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.1.mlp" not in name}
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})


def of_another_shape(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if "layers.1.mlp.up_proj" in name)
    save_file(weights | {name: torch.zeros(3, 3)}, model / "model.safetensors", metadata={"format": "pt"})


def cut(name: str, share: float) -> Callable[[Path], None]:
    def cut_off(model: Path) -> None:
        whole = (model / name).read_bytes()
        (model / name).write_bytes(whole[: int(share * len(whole))])

    return cut_off


def pointer(name: str) -> Callable[[Path], None]:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    return lambda model: (model / name).write_text(text) and None


def gone(*names: str) -> Callable[[Path], None]:
    return lambda model: [(model / name).unlink() for name in names] and None


def a_missing_shard(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def reweighed(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def rewrite(model: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(
            change(load_file(model / "model.safetensors")), model / "model.safetensors", metadata={"format": "pt"}
        )

    return rewrite


def one_layer_more(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    last = {name: weight for name, weight in weights.items() if "language_model" in name and "layers.1." in name}
    return weights | {name.replace("layers.1.", "layers.2."): weight.clone() for name, weight in last.items()}


def all_of(value: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name: torch.full_like(weight, value) for name, weight in weights.items()}


def holds(name: str, text: str) -> Callable[[Path], None]:
    return lambda model: (model / name).write_text(text) and None


def header(text: str) -> Callable[[Path], None]:
    data = len(text).to_bytes(8, "little") + text.encode()
    return lambda model: (model / "model.safetensors").write_bytes(data) and None


def configured_as(**changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        for name, value in changes.items():
            part, _, key = name.rpartition("__")
            (config[part] if part else config)[key] = value
        (model / "config.json").write_text(json.dumps(config))

    return change


def in_shards(named: Any) -> Callable[[Path], None]:
    def split(model: Path) -> None:
        (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
        (model / "model.safetensors.index.json").write_text(json.dumps(named))

    return split


def empty_pickle(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").touch()


def no_model_type(model: Path) -> None:
    (model / "config.json").write_text("{}")


DAMAGES = [
    (without_a_layer, "lack 7 of the model's, first 'model.language_model.layers.1.mlp"),
    (of_another_shape, "1 weights of .* have another shape than config.json says, first .*up_proj"),
    (reweighed(one_layer_more), "hold 9 more of a kind that the model has, first .*layers.2.*fewer layers"),
    (reweighed(lambda w: {name: x.to(torch.int8) for name, x in w.items()}), "of type I8.*no quantization_config"),
    (configured_as(text_config=None), "config.json in .* describes a model of [0-9,]+ numbers, and its weights hold"),
    (configured_as(text_config__hidden_size="32"), "hidden_size.*expected int, got str"),
    (configured_as(text_config__num_attention_heads=0), "cannot load the VLM.*modulo by zero"),
    (configured_as(quantization_config="x"), "cannot load the VLM.*to_dict"),
    (configured_as(text_config__hidden_act="swoosh"), "cannot load the VLM.*KeyError 'swoosh'"),
    (configured_as(model_type=["llava"]), r"\['llava'\] for a model_type"),
    (holds("config.json", "null"), "config.json holds a NoneType"),
    (holds("config.json", "[" * 100_000), "config.json cannot be read"),
    (holds("preprocessor_config.json", "[]"), "preprocessor_config.json holds a list"),
    (holds("tokenizer_config.json", "[]"), "tokenizer_config.json holds a list"),
    (in_shards({"weight_map": ["a"]}), "index.json says of no weight which file it is in"),
    (in_shards({}), "index.json says of no weight which file it is in"),
    (header("{'a"), "model.safetensors is no safetensors file"),
    (header('{"a": {}}'), "model.safetensors is no safetensors file .*data_offsets"),
    (header('{"a": 1}'), "model.safetensors is no safetensors file .*subscriptable"),
    (empty_pickle, "pytorch_model.bin is empty"),
    (cut("model.safetensors", 0.5), "model.safetensors.*cut off"),
    (cut("model.safetensors", 0.0), "model.safetensors"),
    (pointer("model.safetensors"), "model.safetensors is a git-lfs pointer.*git lfs pull"),
    (pointer("tokenizer.json"), "tokenizer.json is a git-lfs pointer"),
    (cut("tokenizer.json", 0.5), "tokenizer.json cannot be read"),
    (cut("config.json", 0.5), "config.json"),
    (no_model_type, "config.json names no model_type"),
    (gone("tokenizer.json"), "no tokenizer"),
    (gone("preprocessor_config.json", "processor_config.json"), "no image processor"),
    (gone("model.safetensors"), "no weights"),
    (a_missing_shard, "lacks 1 of the 2 weight files.*model-00002-of-00002"),
    (gone("chat_template.jinja"), "no chat template.*chat_template.jinja"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[re.sub(r"\W+", "-", said)[:40] for _, said in DAMAGES])
def test_damage_is_said_in_one_line_that_names_the_file_and_the_mend(copied: Path, damage: Any, said: str) -> None:
    damage(copied)
    with pytest.raises(UserError, match=said) as refused:
        HFPrior(str(copied))
    message = str(refused.value)
    assert "\n" not in message and str(copied) in message and "download" in message


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (reweighed(all_of(float("nan"))), "logits for images of noise are NaN or infinite"),
        (reweighed(all_of(0.0)), "takes two images of noise for one and the same"),
        (configured_as(auto_map={"AutoConfig": "conf.C"}, model_type="gizmo"), "brings code of its own, which is not"),
        (holds("adapter_config.json", "{}"), "holds a peft adapter .*--adapter"),
    ],
)
def test_what_cannot_be_a_prior_is_refused_before_a_step(
    copied: Path, damage: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *text: pytest.fail("nobody is asked whether to run its code"))
    damage(copied)
    with pytest.raises(UserError, match=said):
        HFPrior(str(copied))


def test_files_that_no_model_needs_may_be_anything(copied: Path) -> None:
    for name in ("trainer_state.json", "._config.json"):  # as macOS leaves beside what it copies
        (copied / name).write_bytes(b"\x00\xff")
    pointer("pytorch_model.bin")(copied)
    pointer("teaser.png")(copied)
    assert HFPrior(str(copied)).propose(noise(1, 84), prompt()).valid.all()


def test_a_file_that_may_not_be_read_is_named(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refused(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "model.safetensors":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UserError, match=r"model.safetensors cannot be read \(Permission denied\)"):
        HFPrior(str(copied))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "unknown VLM ''"),
        ("./absent", "no folder ./absent"),
        ("/absent/model", "no folder /absent/model"),
        ("http://127.0.0.1:1/v1", "given as openai:http://127.0.0.1:1/v1"),
    ],
)
def test_a_name_that_is_no_models_says_what_was_looked_for(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_prior(name)


@pytest.mark.parametrize("device", ["meta", "gizmo", "cuda:99"])
def test_a_device_that_is_none_is_not_the_models_fault(device: str) -> None:
    with pytest.raises(UserError, match=f"cannot run on the device '{device}'"):
        HFPrior(str(random_folder()), device=device)


def test_an_old_template_file_alone_will_do(tmp_path: Path) -> None:
    for name in ("llava", "qwen2_5_vl"):
        model = Path(shutil.copytree(folder(name), tmp_path / name))
        template = (model / "chat_template.jinja").read_text()
        (model / "chat_template.jinja").unlink()
        (model / "chat_template.json").write_text(json.dumps({"chat_template": template}))
        given, expected = HFPrior(str(model)), HFPrior(str(folder(name)))
        assert given.propose(noise(2, 84), prompt()).texts == expected.propose(noise(2, 84), prompt()).texts
        assert given.describe()["path"] == "fast"


def test_a_window_over_the_text_is_answered_by_the_models_own_steps(tmp_path: Path) -> None:
    made = FAMILIES["qwen2_5_vl"]()
    text = made.config.text_config
    text.use_sliding_window, text.sliding_window = True, 16
    text.layer_types = ["full_attention", "sliding_attention"]
    vlm = HFPrior(str(build(made, tmp_path)))
    assert vlm.describe()["path"].startswith("plain")
    assert vlm.propose(noise(2, 84), prompt()).valid.all()


HUGE = [
    ("llava", {"size": {"shortest_edge": 100_000}}),
    ("llava", {"crop_size": {"height": 100_000, "width": 28}}),
    ("smolvlm", {"size": {"longest_edge": 100_000}}),
    ("llava_next", {"image_grid_pinpoints": [[28, 100_000]]}),
    ("qwen2_vl", {"size": {"shortest_edge": 10**10, "longest_edge": 10**11}}),
]


@pytest.mark.parametrize(("family", "setting"), HUGE)
def test_a_processor_that_would_blow_up_frames_is_refused_before_it_takes_memory(
    tmp_path: Path, family: str, setting: dict[str, Any]
) -> None:
    model = Path(shutil.copytree(folder(family), tmp_path / "model"))
    stored = json.loads((model / "preprocessor_config.json").read_text())
    (model / "preprocessor_config.json").write_text(json.dumps(stored | setting))
    (name,) = setting
    with pytest.raises(UserError, match=f"makes images of 100,000 pixels a side by its {name}") as refused:
        HFPrior(str(model))
    assert "\n" not in str(refused.value)


def test_no_familys_own_sizes_are_refused() -> None:
    rooms = Path(transformers.models.__file__).parent
    tried = 0
    for file in sorted(rooms.glob("*/image_processing_pil_*.py")):
        module = import_module(f"transformers.models.{file.parent.name}.{file.stem}")
        for name, made in vars(module).items():
            if name.endswith("ImageProcessorPil") and made.__module__ == module.__name__:
                check_sizes(name, made())
                tried += 1
    assert tried > 50


def test_a_processor_may_allow_images_of_any_size(tmp_path: Path) -> None:
    model = Path(shutil.copytree(folder("qwen2_vl"), tmp_path / "model"))
    stored = json.loads((model / "preprocessor_config.json").read_text())
    stored["size"] |= {"longest_edge": 10**11}  # pixels, which only shrink an image
    (model / "preprocessor_config.json").write_text(json.dumps(stored))
    assert HFPrior(str(model)).propose(noise(1, 84), prompt()).valid.all()


@pytest.mark.parametrize(
    "setting",
    [{"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 0.01}, {"image_mean": [0.1, 0.2, 0.3]}],
)
def test_settings_of_the_processor_are_honoured(tmp_path: Path, setting: dict[str, Any]) -> None:
    model = Path(shutil.copytree(random_folder(), tmp_path / "model"))
    stored = json.loads((model / "preprocessor_config.json").read_text())
    (model / "preprocessor_config.json").write_text(json.dumps(stored | setting))
    vlm, images = HFPrior(str(model)), noise(2, 84)
    values, _ = patches(images, vlm.checkpoint.image_processor)
    official = vlm.checkpoint.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
    assert torch.allclose(values, official, rtol=1e-5, atol=1e-5)
    usual = HFPrior(str(random_folder())).propose(images, prompt())
    assert not np.array_equal(vlm.propose(images, prompt()).valid_mass, usual.valid_mass)  # type: ignore[arg-type]


def test_no_model_that_answers_images_in_text_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match=r"'gpt2' model, and transformers' AutoModelForImageTextToText has none such"):
        checkpoint.load(str(tmp_path))


class Glued:
    """Cuts text into pairs of characters, the sign and bracket apart, as byte pairs may."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, texts: Any, add_special_tokens: bool = True) -> Any:
        parts = [re.findall(rf"[A-Za-z: ]+\[|[0-9]{{1,{self.size}}}|.", text) for text in texts]
        return type("Out", (), {"input_ids": [[zlib.crc32(p.encode()) for p in row] for row in parts]})


@pytest.mark.parametrize("size", [1, 2, 3])
def test_digits_that_are_glued_to_each_other_are_spelled_all_the_same(size: int) -> None:
    spelling = Spelling.of(Glued(size), 2)
    number = spelling.numbers[1]
    assert spelling.even and len(number.levels) == (4 if size == 1 else 3)
    assert len({tuple(row) for row in number.rows.tolist()}) == len(FORMS) == 202
    written = spelling.answer_ids(np.array([[0.37, -1.0]], np.float32))
    assert written[0].tolist() == Glued(size)(["Action: [+0.37, -1.00]"]).input_ids[0]


def test_numbers_of_several_lengths_end_where_they_end() -> None:
    class Zeros(Glued):
        def __call__(self, texts: Any, add_special_tokens: bool = True) -> Any:
            parts = [re.findall(r"0\.00|1\.00|.", text) for text in texts]
            return type("Out", (), {"input_ids": [[zlib.crc32(p.encode()) for p in row] for row in parts]})

    spelling = Spelling.of(Zeros(1), 1)
    assert not spelling.even
    rows = spelling.answer_ids(np.array([[0.0], [0.37]], np.float32))
    assert (rows[0] == -100).sum() == 3 and (rows[1] >= 0).all()


def test_a_real_tokenizer_that_glues_digits_is_asked_as_exactly(tmp_path: Path) -> None:
    """The fast path needs a token a digit; without one the plain path reads the same kinds of answers."""
    made = FAMILIES["llava"]()
    backend = json.loads(made.tokenizer.backend_tokenizer.to_str())
    vocabulary, merges = backend["model"]["vocab"], backend["model"]["merges"]
    for pair in ("00", "37", "25"):  # in the place of the longest words
        vocabulary[pair] = vocabulary.pop("".join(merges.pop()))
        merges.insert(0, [pair[0], pair[1]])
    backend["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    from tokenizers import Tokenizer

    made.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    vlm = HFPrior(str(build(made, tmp_path)))
    assert vlm.describe()["path"].startswith("plain")
    answers = vlm.propose(noise(3, 84), prompt())
    assert answers.valid.all()
    alone = [vlm.propose(noise(3, 84)[i : i + 1], prompt()).texts[0] for i in range(3)]
    assert list(answers.texts) == alone
    vlm.decode = "expect"
    assert vlm.propose(noise(3, 84), prompt()).texts == answers.texts


def test_the_stand_in_is_served_fast() -> None:
    assert HFPrior(str(random_folder())).describe()["path"] == "fast"


BENDING: dict[str, Any] = {
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 31,
    "suppress_tokens": list(range(100)),
    "exponential_decay_length_penalty": [2, 9.0],
    "num_beams": 3,
    "repetition_penalty": 9.0,
    "do_sample": True,
}


@pytest.mark.parametrize("bent", BENDING)
@pytest.mark.parametrize("model", [speaking_folder, lambda: folder("llava")], ids=["patches", "segment"])
def test_a_checkpoints_own_settings_of_generate_bend_no_answer(model: Any, bent: str, tmp_path: Path) -> None:
    """Some banned digits or put the end of an answer off, and it counted as no_match or truncated."""
    copy = Path(shutil.copytree(model(), tmp_path / "model"))
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {bent: BENDING[bent]}))
    given, expected = (
        HFPrior(str(source), decode="generate").propose(noise(4), prompt()) for source in (copy, model())
    )
    assert (given.texts, given.statuses) == (expected.texts, expected.statuses)
    assert model is not speaking_folder or "ok" in given.statuses
