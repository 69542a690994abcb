"""A small model of the Qwen2.5-VL architecture, with its own tokenizer, image processor and chat template.

It loads through the same Auto classes as the real model and stands in for it where there are no weights: about
1.2 million parameters, 4.8 MB. It is not Qwen, shares no weights with it and has no knowledge of the world.

    python -c "from covr.vlm.tiny import build; build('tiny_vlm', seed=0)"     # random weights, in a second or two
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr.vlm.base import VisionLanguagePrior, VLMOptions, VLMSpec
from covr.vlm.checkpoint import MARKER
from covr_bench.kit.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLConfig


@dataclass(frozen=True)
class Size:
    """Widths and depths. Vision heads are 32 or 48 wide; language heads 32, so that rotary sections add up to 16."""

    vision_depth: int
    vision_width: int
    vision_heads: int
    vision_hidden: int
    depth: int
    width: int
    heads: int
    kv_heads: int
    hidden: int


SIZES = {
    "xs": Size(2, 96, 3, 256, 3, 128, 4, 2, 384),
    "s": Size(4, 192, 4, 512, 4, 192, 6, 2, 512),
}
SPECIAL_TOKENS = (  # Qwen's own, in its order
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
# Qwen glues a sign to the bracket or the space before it; a tokenizer that did not would test another shape of answer.
SIGN_MERGES = (("Ġ", "["), ("Ġ[", "-"), ("Ġ[", "+"), ("Ġ", "-"), ("Ġ", "+"))
VOCABULARY = 640
# Words the prompts use, most frequent first; whatever is not merged is spelled in bytes.
BARE_WORDS = ("Action", "system", "user", "assistant", "You", "Give", "Side", "Top", "Rule")  # begin a line
WORDS = (
    "numbers number from to with sign and two decimals in this form only one the a of it is on control robot "
    "Look at image answer action Give Rule view moving task push turn drive move swing flick keep stay run "
    "walk hop reach reaches left right up down forward upright pole cart rail carrying hinged middle near or "
    "arm link joints target disc square arena coloured flat legged hip knee ankle walker hips knees ankles "
    "finger body free spinning quickly cup ball string hanging comes rest inside swings tip waist torso hopper "
    "as fast possible moderate speed that its so then beside while for position angle height velocity state "
    "value "
)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


def build(folder: Path | str, seed: int = 0, size: str = "xs") -> Path:
    """Write a checkpoint with random weights. The same seed and size write the same bytes.

    Raises UserError for an unknown size.
    """
    import torch
    from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if size not in SIZES:
        raise unknown("size of the tiny model", size, SIZES)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokens = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config(SIZES[size], tokens))
    end, pad = tokens.convert_tokens_to_ids("<|im_end|>"), tokens.convert_tokens_to_ids("<|endoftext|>")
    settings: dict[str, Any] = {"eos_token_id": [end, pad], "pad_token_id": pad, "do_sample": False}
    model.generation_config = GenerationConfig(**settings)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    write_card(folder, {"size": size, "seed": seed, "parameters": model.num_parameters(), **asdict(SIZES[size])})
    return folder


def tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE with Qwen's splitting rules and special tokens, digits and signs cut as Qwen cuts them."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    vocabulary = {symbol: i for i, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    merges = list(SIGN_MERGES)
    merges += _word_merges(VOCABULARY - len(vocabulary) - len(merges) - len(SPECIAL_TOKENS))
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    vocabulary |= {token: len(vocabulary) + i for i, token in enumerate(SPECIAL_TOKENS)}
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # it hands them on to the BPE, which takes pairs
        eos_token="<|im_end|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
        chat_template=CHAT_TEMPLATE,
    )


def config(size: Size, tokens: PreTrainedTokenizerBase) -> Qwen2_5_VLConfig:
    from transformers import Qwen2_5_VLConfig

    ids: dict[str, Any] = {token: tokens.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    head = size.width // size.heads
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "intermediate_size": size.hidden,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "max_position_embeddings": 2048,
        "initializer_range": 0.08,  # the usual 0.02 is too small at this width
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [head // 2 - 2 * (3 * head // 16), 3 * head // 16, 3 * head // 16],
        },
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": size.vision_depth,
        "hidden_size": size.vision_width,
        "intermediate_size": size.vision_hidden,
        "num_heads": size.vision_heads,
        "out_hidden_size": size.width,
        "fullatt_block_indexes": [size.vision_depth - 1],
        "initializer_range": 0.08,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        dtype="float32",
    )


def write_card(folder: Path, made: dict[str, Any]) -> None:
    """The marker and the model card. made: how the weights came about, JSON values."""
    (folder / MARKER).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    training = made.get("pretraining")
    how = (
        f"Pre-trained on seeing and on the answer's form only: {json.dumps(training, sort_keys=True)}. It has never "
        "been shown what a task's good actions are."
        if training
        else "Weights are random: it knows nothing and answers nothing useful."
    )
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\npipeline_tag: image-text-to-text\n---\n"
        "# A tiny stand-in for a vision-language model\n\n"
        f"The Qwen2.5-VL architecture at {made['parameters']:,} parameters, made by covr-bench "
        f"(`covr.vlm.tiny.build`, size `{made['size']}`, seed {made['seed']}). **This is not Qwen**: it shares no "
        "weights, no training data and no vocabulary with it, and it has no knowledge of the world. What it measures "
        "is the loop around the model, not what a real vision-language model would contribute.\n\n"
        f"{how}\n"
    )


def _word_merges(number: int) -> list[tuple[str, str]]:
    """Merges that make single tokens of words, letter by letter from the left.

    Those of a word at the beginning of a line come last: they would otherwise cut other words in the middle. A word
    whose merges no longer fit is left out.
    """
    bare = _chains(BARE_WORDS)
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS.split():
        if len(merges | (chain := _chains([f"Ġ{word}"]))) + len(bare) <= number:
            merges |= chain
    return list(merges | bare)


def _chains(words: Iterable[str]) -> dict[tuple[str, str], None]:
    return {(word[:i], word[i]): None for word in words for i in range(1, len(word))}


def _shipped(options: VLMOptions) -> VisionLanguagePrior:
    from covr.vlm.hf import HFPrior

    return HFPrior(
        "tiny",
        decode=options.decode or "forced",
        device=options.device,
        dtype=options.dtype,
        settings=options.settings,
        seed=options.seed,
    )


VLM = VLMSpec("tiny", _shipped, stand_in=True, doc="A model of 1.2 million parameters, shipped with the project.")
