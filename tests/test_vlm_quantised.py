"""8-bit and 4-bit weights answer nearly as whole ones do, and are tuned by an adapter; skipped without the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from vlm_families import folder
from vlm_models import noise, prompt

from covr.vlm.base import Dtype, FinetuneSettings, Samples
from covr.vlm.hf import HFPrior
from covr_bench.kit.errors import UserError

CLOSE = {"int8": 0.05, "int4": 1.0}  # of valid mass, relative
SETTINGS = FinetuneSettings(rank=4, alpha=64, lr=0.02, epochs=1, batch_size=4, heldout=0.0)
IMAGES = noise(4, 84)
SAMPLES = Samples(IMAGES, np.linspace(-0.9, 0.9, 8, dtype=np.float32).reshape(4, 2), np.ones(4, np.float32))
INSTALLED = "transformers.utils.import_utils.is_{}_available"


@pytest.fixture(params=["bitsandbytes", "torchao"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if not find_spec(request.param):
        pytest.skip(f"no {request.param}: pip install {request.param}")
    if request.param == "torchao":
        monkeypatch.setattr(INSTALLED.format("bitsandbytes"), lambda: False)
    return str(request.param)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_quantised_weights_answer_and_are_tuned(package: str, dtype: Dtype, tmp_path: Path) -> None:
    model = str(folder("qwen2_vl"))
    if (package, dtype) == ("torchao", "int4"):
        with pytest.raises(UserError, match="int4 on a CPU needs bitsandbytes"):
            HFPrior(model, dtype=dtype)
        return
    whole, vlm = HFPrior(model), HFPrior(model, dtype=dtype, settings=SETTINGS)
    assert vlm.describe()["parameters"] == whole.describe()["parameters"]
    weights = dict(vlm.checkpoint.model.named_parameters())
    quantised = {name for name, weight in weights.items() if type(weight).__name__ != "Parameter"}
    assert len(quantised) == 14 and all("language_model.layers" in name for name in quantised)
    before, expected = vlm.propose(IMAGES, prompt()), whole.propose(IMAGES, prompt())
    assert before.valid.all()
    assert before.valid_mass == pytest.approx(expected.valid_mass, rel=CLOSE[dtype])
    assert vlm.finetune(SAMPLES, prompt()).finite
    vlm.save_adapter(tmp_path)
    after = vlm.propose(IMAGES, prompt())
    assert not np.array_equal(before.valid_mass, after.valid_mass)  # type: ignore[arg-type]
    again = HFPrior(model, dtype=dtype)
    again.load_adapter(tmp_path)
    assert again.propose(IMAGES, prompt()).valid_mass == pytest.approx(after.valid_mass, rel=1e-5)
