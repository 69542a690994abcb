"""A model's processor, with what one image and one text need of it.

`AutoProcessor` would need torchvision, for the video half of many processors and for one function of Pixtral's. Its
parts do not: the tokenizer, and the image processor's PIL backend.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_SIDE = 4096  # pixels of a prepared image; published processors make 2048 at most
SIZED = ("size", "crop_size", "pad_size", "max_image_size", "patch_size", "image_grid_pinpoints")
NAMED_IN = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def load_processor(source: str, config: Any) -> Any:
    """The processor of a folder or hub id. Raises UserError if the model's family has none that takes an image."""
    found = _class(source, config)
    if found is None or "image_processor" not in found.get_attributes():
        raise UserError(f"transformers has no processor of images and text for a {config.model_type!r} model")
    processor = _images_only(found).from_pretrained(source, trust_remote_code=False)
    check_sizes(source, processor.image_processor)
    return processor


def check_sizes(source: str, images: Any) -> None:
    """Raises UserError if the image processor would blow up a frame until memory is gone."""
    sizes: dict[str, Any] = {name: getattr(images, name, None) for name in SIZED}
    if hasattr(sys.modules[type(images).__module__], "smart_resize"):  # the area's bounds, not sides; one only shrinks
        sizes["size"] = math.isqrt(int(_named(sizes["size"]).get("shortest_edge") or 0))
    for name, value in sizes.items():
        if (largest := max(_numbers(value), default=0)) > MOST_SIDE:
            raise UserError(
                f"the image processor of {source} makes images of {largest:,.0f} pixels a side by its {name}, and "
                f"{MOST_SIDE:,} are the most here: mend {name} in preprocessor_config.json, or download the model again"
            )


def _numbers(value: Any) -> list[float]:
    """All numbers of a size, in whatever form it is given."""
    if isinstance(value, (int, float)):
        return [value]
    parts = value if isinstance(value, (list, tuple)) else _named(value).values()
    return [number for part in parts for number in _numbers(part)]


def _named(size: Any) -> dict[str, Any]:
    """A size by its names: a mapping, or transformers' own class of them."""
    return dict(size) if isinstance(size, Mapping) else dict(getattr(size, "__dict__", {}))


def _class(source: str, config: Any) -> Any:
    """The class that the checkpoint names, else the one of its family."""
    from transformers.models.auto import processing_auto

    auto: Any = processing_auto

    names = [_stored(source, file).get("processor_class") for file in NAMED_IN]
    names.append(auto.PROCESSOR_MAPPING_NAMES.get(config.model_type))
    return next((found for name in names if name and (found := _by_name(name)) is not None), None)


def _stored(source: str, file: str) -> dict[str, Any]:
    """A JSON file of the checkpoint, empty if there is none."""
    from transformers.utils.hub import cached_file

    path = cached_file(
        source,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return {} if path is None else dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _by_name(name: str) -> Any:
    from transformers.models.auto import processing_auto

    auto: Any = processing_auto

    found = auto.processor_class_from_name(name)
    if not getattr(found, "is_dummy", False):
        return found
    # The class asks for torchvision as a whole.
    families = [family for family, known in auto.PROCESSOR_MAPPING_NAMES.items() if known == name]
    return next((found for family in families if (found := _beside_pil(family, name)) is not None), None)


def _beside_pil(family: str, name: str) -> Any:
    """The class from its own file, with the image processor's PIL file in the place of torchvision's."""
    stem = name.removesuffix("Processor").lower()
    for folder in dict.fromkeys((stem, family.replace("-", "_"))):
        room = f"transformers.models.{folder}"
        try:
            pil = importlib.import_module(f"{room}.image_processing_pil_{folder}")
            sys.modules.setdefault(f"{room}.image_processing_{folder}", pil)
            return getattr(importlib.import_module(f"{room}.processing_{folder}"), name)
        except (ImportError, AttributeError):
            continue
    return None


def _images_only(processor: Any) -> Any:
    """A processor class that does without its part for video, and without that for sound where it cannot be had."""

    class ImagesOnly(processor):  # type: ignore[misc]
        @classmethod
        def _get_arguments_from_pretrained(cls, source: Any, *args: Any, **kwargs: Any) -> list[Any]:
            return [_part(part, source) for part in cls.get_attributes()]

        def check_argument_for_proper_class(self, name: str, part: Any) -> Any:
            return None if isinstance(part, Absent) else super().check_argument_for_proper_class(name, part)

        def __repr__(self) -> str:
            return str(processor.__name__)  # the usual one writes every part as JSON

    ImagesOnly.__name__ = processor.__name__
    return ImagesOnly


class Absent:
    """Stands where a processor's part for video or sound would be."""

    model_input_names: tuple[str, ...] = ()


def _part(part: str, source: str) -> Any:
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

    if "image_processor" in part:
        return AutoImageProcessor.from_pretrained(source, backend="pil", trust_remote_code=False)  # type: ignore[no-untyped-call]
    if "tokenizer" in part:
        return AutoTokenizer.from_pretrained(
            source, subfolder="" if part == "tokenizer" else part, trust_remote_code=False
        )
    if "video" in part:
        return Absent()
    try:
        return AutoFeatureExtractor.from_pretrained(source, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError):
        return Absent()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' warnings: about what is only tried, or is said better by us."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
