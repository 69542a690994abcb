"""`covr-bench vlm`: what is shown of an answer, what is refused, and what can be read as an image."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_vlm_server import Server, server
from vlm_models import noise, prior, random_folder

from covr.vlm import checkpoint
from covr.vlm.base import FinetuneSettings, Samples
from covr.vlm.grammar import STATUSES
from covr.vlm.prompts import task_prompt
from covr_bench.cli import vlm as vlm_commands
from covr_bench.cli.pictures import MAX_SIDE, first_frames, read_image
from covr_bench.cli.vlm import REASONS, Timing, print_timings
from covr_bench.config import registry
from covr_bench.kit.errors import UserError

__all__ = ["server"]  # the fixture
SUITE = registry.suite("catch")
CATCH = ("--suite", "catch", "--task", "catch")
PROMPT = task_prompt(SUITE.task("catch").instruction, 1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(noise(1)[0]).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def fields(text: str) -> dict[str, str]:
    """The last block of lines `name    value` that `ask` printed."""
    return dict(re.findall(r"^  (raw text|action|deviation|valid mass|time) +(.*?) *$", text, re.MULTILINE))


def test_an_image_is_answered_as_the_vlm_answers_it(cli: Callable[..., Any], picture: Path) -> None:
    result = cli("vlm", "ask", picture, *CATCH, "--vlm", random_folder(), "--device", "cpu")
    assert result.code == 0
    expected = prior().propose(noise(1), PROMPT)
    shown = fields(result.out)
    assert shown["raw text"] == repr(expected.texts[0]) and shown["action"] == f"{expected.actions[0, 0]:+.2f}"
    assert expected.valid_mass is not None and shown["valid mass"] == f"{expected.valid_mass[0]:.3f}"
    assert re.fullmatch(r"[0-9.]+ ms", shown["time"])
    flat = " ".join(result.out.split())
    for said in (PROMPT.system, " ".join(PROMPT.user.split()), "1,207,072 parameters, float32 on cpu, decode forced"):
        assert said in flat
    assert f"{picture}, 56x56" in result.out


def test_several_images_and_frames_are_asked_in_order(cli: Callable[..., Any], picture: Path) -> None:
    small = picture.with_name("small.png")
    Image.new("L", (20, 10)).save(small)
    seeds = ("--frame", "3", "--frame", "1", "--image-size", "64")
    result = cli("vlm", "ask", picture, small, "--task", "catch/catch", *seeds, "--vlm", "scripted")
    assert result.code == 0
    asked = re.findall(r"^(\S.*, \d+x\d+)$", result.out, re.MULTILINE)
    assert asked == [f"{picture}, 56x56", f"{small}, 20x10", "frame of seed 3, 64x64", "frame of seed 1, 64x64"]
    assert result.out.count("raw text") == 4


def test_a_frame_is_the_tasks_first_of_that_seed() -> None:
    action_dim, frames = first_frames(SUITE.task("catch"), [5, 6], 84)
    env = SUITE.task("catch").make(0)
    assert action_dim == 1 and len(frames) == 2
    assert np.array_equal(frames[0].transpose(2, 0, 1), env.reset(seed=5)[0][:3])
    assert not np.array_equal(frames[0], frames[1])


def test_expectation_shows_the_mean_and_the_deviation(cli: Callable[..., Any], picture: Path) -> None:
    result = cli("vlm", "ask", picture, *CATCH, "--vlm", random_folder(), "--decode", "expect", "--device", "cpu")
    expected = prior(decode="expect").propose(noise(1), PROMPT)
    assert expected.variance is not None
    shown = fields(result.out)
    assert shown["action"] == f"{expected.actions[0, 0]:+.2f}"
    assert shown["deviation"] == f"{expected.variance[0, 0] ** 0.5:.2f}"


def test_an_answer_that_is_no_action_is_shown_with_the_reason(cli: Callable[..., Any], picture: Path) -> None:
    result = cli("vlm", "ask", picture, *CATCH, "--vlm", random_folder(), "--decode", "generate", "--device", "cpu")
    assert result.code == 0
    assert fields(result.out)["action"] == "none, truncated: cut off before the answer was whole"


def test_every_status_has_its_reason() -> None:
    assert set(REASONS) == set(STATUSES) - {"ok"}


def test_a_server_is_asked_for_free_text(cli: Callable[..., Any], picture: Path, server: Server) -> None:
    server.text = "Push [b]left[/b]\x1b[31m!"
    result = cli("vlm", "ask", picture, *CATCH, "--vlm", f"openai:{server.url}#some-model")
    assert result.code == 0 and server.asked[0][1]["model"] == "some-model"
    assert f"VLM openai:{server.url}, decode generate" in " ".join(result.out.split())
    assert fields(result.out)["raw text"] == repr(server.text)
    assert fields(result.out)["action"].startswith("none, no_action_word")
    refused = cli("vlm", "ask", picture, *CATCH, "--vlm", f"openai:{server.url}", "--decode", "forced")
    assert refused.code == 2 and "decode=generate" in refused.err


@pytest.mark.parametrize("verb", ["ask", "bench"])
def test_a_server_that_is_down_is_one_error(
    cli: Callable[..., Any], picture: Path, server: Server, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.script = [500] * 1000
    images = [picture] if verb == "ask" else []
    result = cli("vlm", verb, *images, *CATCH, "--vlm", f"openai:{server.url}#m")
    assert result.code == 2 and "does not answer" in result.err and "500" in result.err
    assert "Traceback" not in result.err


def test_an_adapter_is_taken_up(cli: Callable[..., Any], picture: Path, tmp_path: Path) -> None:
    tuned = prior(settings=FinetuneSettings(rank=2, epochs=4, lr=0.02, heldout=0.0))
    actions = np.full((8, 1), 0.5, np.float32)
    tuned.finetune(Samples(noise(8), actions, np.ones(8, np.float32)), PROMPT)
    tuned.save_adapter(tmp_path / "adapter")
    command = ("vlm", "ask", picture, *CATCH, "--vlm", random_folder(), "--device", "cpu")
    result = cli(*command, "--adapter", tmp_path / "adapter")
    assert "tuned in 1 round" in " ".join(result.out.split())
    expected = tuned.propose(noise(1), PROMPT).valid_mass
    assert expected is not None and fields(result.out)["valid mass"] == f"{expected[0]:.3f}"
    assert fields(result.out)["valid mass"] != fields(cli(*command).out)["valid mass"]
    absent = cli(*command, "--adapter", tmp_path / "absent")
    assert absent.code == 2 and "no peft adapter" in absent.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--suite", "catch", "--task", "catchh"), "unknown task of suite catch 'catchh'. Did you mean 'catch'"),
        (("--suite", "cach", "--task", "catch"), "unknown suite 'cach'. Did you mean 'catch'"),
        (("--task", "catch/catchh"), "unknown task of suite catch 'catchh'. Did you mean 'catch'"),
        ((*CATCH, "--vlm", "absent/model"), "cannot load the VLM 'absent/model': looked in the cache"),
        ((*CATCH, "--vlm", "openai:host:8000"), "begins with http"),
        ((*CATCH, "--device", "gpu"), "unknown device 'gpu'"),
    ],
)
def test_bad_input_is_named(
    cli: Callable[..., Any], picture: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, complaint: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = cli("vlm", "ask", picture, *arguments)
    assert result.code == 2 and complaint in result.err and "Traceback" not in result.err


def test_bad_pictures_are_named_before_anything_is_loaded(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for name, complaint in (("absent.png", "no image file"), ("text.png", "no image that can be read"), (".", "no im")):
        result = cli("vlm", "ask", tmp_path / name, *CATCH, "--vlm", "absent/model")
        assert result.code == 2 and complaint in result.err
    assert "--frame SEED" in cli("vlm", "ask", *CATCH).err
    for options in (("--frame", "-1"), ("--frame", "0", "--decode", "beam"), ("--frame", "0", "--image-size", "2")):
        assert cli("vlm", "ask", *CATCH, *options).code == 2


def test_the_tiny_weights_may_be_missing(
    cli: Callable[..., Any], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "absent")
    result = cli("vlm", "ask", picture, *CATCH)
    assert result.code == 2 and str(tmp_path / "absent") in result.err and "pretrain_tiny_vlm.py" in result.err
    monkeypatch.setattr(checkpoint, "SHIPPED", random_folder())
    assert "VLM tiny: a stand-in" in cli("vlm", "ask", picture, *CATCH).out


def test_an_image_needs_no_opengl_and_a_frame_says_that_it_does(
    start: Any, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "broken")
    command = ("vlm", "ask", "--task", "walker_walk", "--vlm", "scripted")
    images, frames = start(*command, picture), start(*command, "--frame", "0")
    out, err = images.communicate(timeout=120)
    assert images.returncode == 0, err
    assert "a1, a2, a3, a4, a5, a6" in out
    _, err = frames.communicate(timeout=120)
    assert frames.returncode == 2 and "no OpenGL backend can draw a frame" in err and "Traceback" not in err


def test_frames_of_the_control_suite_are_drawn(start: Any) -> None:
    process = start("vlm", "ask", "--task", "reacher_easy", "--vlm", "scripted", "--frame", "0", "--frame", "1")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    first, second = re.findall(r"action +(.*?) *$", out, re.MULTILINE)
    assert first != second


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "PIL", "transformers", "gymnasium", "pandas", "rich.table")
    code = f"import sys, covr_bench.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BATCHES", (1, 3)), ("ROUNDS", 1), ("ROUND_S", 0.0)):
        monkeypatch.setattr(vlm_commands, name, value)


@pytest.mark.usefixtures("short")
def test_bench_times_each_decoding_mode_at_each_batch(cli: Callable[..., Any]) -> None:
    result = cli("vlm", "bench", *CATCH, "--vlm", random_folder(), "--device", "cpu")
    assert result.code == 0
    rows = re.findall(r"^ (\w+) +(\d+) +([\d.]+) +([\d.]+)x +(\d) of (\d) *$", result.out, re.MULTILINE)
    assert [row[:2] for row in rows] == [(m, b) for m in ("generate", "forced", "expect") for b in ("1", "3")]
    assert rows[0][3] == "1.0" and all(float(row[2]) > 0 for row in rows)
    assert [row[4] for row in rows] == ["0", "0", "1", "3", "1", "3"]
    assert "84x84 frames, answers of 1 number" in result.out and "cut off" in result.out


@pytest.mark.usefixtures("short")
def test_bench_of_what_has_one_way_to_answer(cli: Callable[..., Any], server: Server) -> None:
    result = cli("vlm", "bench", *CATCH, "--vlm", f"openai:{server.url}#m")
    assert re.findall(r"^ (\w+) +(\d) ", result.out, re.MULTILINE) == [("generate", "1"), ("generate", "3")]
    assert "cut off" not in result.out
    assert cli("vlm", "bench", *CATCH, "--vlm", "scripted").out.count(" rule ") >= 2


def test_ratios_are_to_the_first_timing(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    timings = [Timing("generate", 1, 0.060, ("ok",)), Timing("forced", 2, 0.004, ("ok", "ok"))]
    print_timings(timings, "some VLM", Console(width=80))
    out = capsys.readouterr().out
    assert re.search(r"forced +2 +4\.00 +15\.0x +2 of 2", out) and re.search(r"generate +1 +60\.00 +1\.0x", out)


COLOURS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def test_a_colour_image_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), COLOURS)


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "P"])
def test_what_has_no_colour_channels_is_given_them(tmp_path: Path, mode: str) -> None:
    grey = np.where(COLOURS[:, :, 0] > 127, 255, 0).astype(np.uint8)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    (wide if mode == "I;16" else Image.fromarray(grey).convert(mode)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.repeat(grey[:, :, None], 3, 2))


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_what_is_transparent_is_white(tmp_path: Path, suffix: str) -> None:
    alpha = np.zeros((12, 16, 1), np.uint8)
    alpha[:, 8:] = 255
    Image.fromarray(np.concatenate([COLOURS, alpha], 2)).save(tmp_path / f"a.{suffix}", lossless=True)
    read = read_image(tmp_path / f"a.{suffix}")
    assert (read[:, :8] == 255).all() and np.array_equal(read[:, 8:], COLOURS[:, 8:])


def test_large_images_are_shrunk_and_thin_ones_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2 * MAX_SIDE, MAX_SIDE)).save(tmp_path / "large.png")
    assert read_image(tmp_path / "large.png").shape == (MAX_SIDE // 2, MAX_SIDE, 3)
    for size in ((7, 50), (900, 8)):
        Image.new("RGB", size).save(tmp_path / "thin.png")
        with pytest.raises(UserError, match=f"{size[0]}x{size[1]} pixels"):
            read_image(tmp_path / "thin.png")
    Image.fromarray(COLOURS[:, :, 0].astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UserError, match="floating-point"):
        read_image(tmp_path / "float.tiff")


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, form)
    return file.getvalue()


FILES = [encoded(form) for form in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FILES), st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(damaged)
    try:
        image = read_image(tmp_path / "a")
    except UserError:
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
