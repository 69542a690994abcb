"""Published policies and stores: what a stranger gets acts as the run did, and tells nothing of another's disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from test_policies import store
from typer.testing import CliRunner

import covr_bench
from covr_bench.cli.app import app
from covr_bench.kit.code import code_hash
from covr_bench.kit.errors import UserError
from covr_bench.policies import hub
from covr_bench.policies.play import TrainedPolicy
from covr_bench.remote.card import store_card
from covr_bench.remote.paths import names_of, shortened, shortened_lines
from covr_bench.remote.publish import store as published_store
from covr_bench.run.checkpoint import load_saved
from results import provenance
from results.layout import PROVENANCE_FILE, ROWS_FILE, StoreWarning, run_folder
from results.store import RunWriter, read

RUN = "catch@smoke/catch/drqv2/0"
AGENT = """
from covr_bench.kit.api import AgentSpec
from baselines.drqv2 import AGENT as DRQV2
from dataclasses import replace
AGENT = replace(DRQV2, name="mine")
"""


def publish(out: Path, what: str, to: object, *options: str) -> str:
    result = CliRunner().invoke(app, ["publish", what, "--out", str(out), "--to", str(to), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def actions(policy: TrainedPolicy) -> np.ndarray[Any, Any]:
    obs, _ = policy.env.reset(seed=3)
    return np.stack([policy.act(np.roll(obs, shift, axis=2)) for shift in range(5)])


def test_a_published_policy_acts_as_the_run_did(tmp_path: Path) -> None:
    out, to = tmp_path / "results", tmp_path / "mine"
    store(out, init=5)
    publish(out, RUN, to, "--licence", "mit")
    with covr_bench.load_policy(RUN, out) as run, covr_bench.load_policy(str(to)) as stranger:
        assert np.array_equal(actions(run), actions(stranger))
    assert {file.name for file in to.iterdir()} == {
        "README.md", "checkpoint", "curve.png", "episode.mp4", "provenance.json", "rows.jsonl",
    }  # fmt: skip
    assert (to / "episode.mp4").stat().st_size > 1000
    assert kept(run_folder(out, RUN)) == {"encoder", "actor", "critic", "critic_target", "critic_opt", "actor_opt"}
    assert kept(to) == {"encoder", "actor", "critic_opt", "actor_opt"}


def kept(run: Path) -> set[str]:
    """Parts of the agent's state in a run's checkpoint."""
    saved = load_saved(run / "checkpoint")
    assert saved
    return {name for name, part in saved.state["agent"].items() if isinstance(part, dict)}


def test_a_run_is_published_from_the_store_that_its_folder_is_in(tmp_path: Path) -> None:
    out, to, elsewhere = tmp_path / "mine", tmp_path / "published", tmp_path / "results"
    store(out)
    publish(elsewhere, str(run_folder(out, RUN)), to, "--no-video")
    assert "environment steps: one episode." in (to / "README.md").read_text()
    with pytest.raises(UserError, match="not in a folder of results"):
        publish(out, str(to), tmp_path / "again", "--no-video")


def test_its_card_says_what_was_measured_and_how_to_evaluate_it(tmp_path: Path) -> None:
    out, to = tmp_path / "results", tmp_path / "mine"
    store(out)
    publish(out, RUN, to, "--licence", "mit", "--no-video")
    card = (to / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "mit"
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "catch/catch"
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == 1.0
    assert "covr-bench eval mine\n" in card
    assert "after 400 environment steps: one episode." in card
    assert "episode.mp4" not in card


def test_folders_with_spaces_are_not_published(tmp_path: Path) -> None:
    """`/home/jane doe/secret/agent.py` became `jane doe/secret/agent.py`."""
    out, to = tmp_path / "jane doe (old)" / "results", tmp_path / "mine"
    store(out)
    file = run_folder(out, RUN) / PROVENANCE_FILE
    record = json.loads(file.read_text())
    record["config"]["agent_config"]["folder"] = "/data/my models [new]/qwen"
    file.write_text(json.dumps(record))
    publish(out, RUN, to, "--no-video")
    told = (to / PROVENANCE_FILE).read_text()
    assert "jane" not in told and "my models" not in told and '"folder": "qwen"' in told


def test_a_run_without_a_record_is_said_to_be_left_out_of_a_published_store(tmp_path: Path) -> None:
    out = tmp_path / "results"
    store(out)
    with RunWriter(out, "catch@smoke/catch/drqv2/7", action_repeat=2) as writer:
        writer.write("eval", 400, 200, {"return": [1.0]})
    with pytest.warns(StoreWarning, match="drqv2/7 has no record, and is not published"):
        published_store(out, tmp_path / "to", "mine")


def test_code_that_came_with_a_fetched_run_runs_only_if_trusted(tmp_path: Path) -> None:
    """A record that was fetched can name any file: the suite's and the agent's are asked about alike."""
    store(tmp_path)
    folder = run_folder(tmp_path, RUN)
    evil = folder / "evil.py"
    evil.write_text("raise SystemExit('it ran')")
    record = json.loads((folder / PROVENANCE_FILE).read_text())
    for what in ("suite", "agent"):
        changed = record | {"config": record["config"] | {what: str(evil)}}
        (folder / PROVENANCE_FILE).write_text(json.dumps(changed))
        with pytest.raises(UserError, match=r"names code that may have come with it, .*evil.py: read it"):
            covr_bench.load_policy(RUN, tmp_path)
        with pytest.raises((SystemExit, UserError), match=r"it ran|cannot be imported"):
            covr_bench.load_policy(RUN, tmp_path, trust_code=True)
    for what in ("base", "vlm"):
        settings = record["config"]["agent_config"] | {what: str(evil)}
        changed = record | {"config": record["config"] | {"agent_config": settings}}
        (folder / PROVENANCE_FILE).write_text(json.dumps(changed))
        with pytest.raises(UserError, match=r"names code that may have come with it, .*evil.py: read it"):
            covr_bench.load_policy(RUN, tmp_path)


def test_paths_of_this_machine_are_their_last_names(tmp_path: Path) -> None:
    out, to = tmp_path / "results", tmp_path / "mine"
    store(out)
    with RunWriter(out, RUN, action_repeat=2) as writer:
        writer.error('File "/home/alice/x.py", line 3\n/scratch/lab/y')
    path = run_folder(out, RUN) / PROVENANCE_FILE
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"vlm": "/scratch/alice/llava", "at": "https://a.org/b/c"}))
    publish(out, RUN, to, "--no-video")
    told = (to / PROVENANCE_FILE).read_text() + (to / "rows.jsonl").read_text()
    assert "alice" not in told and "scratch" not in told
    assert '"vlm": "llava"' in told and "https://a.org/b/c" in told and "x.py" in told


@pytest.mark.parametrize("folder", ["jane doe/secret project", "[jane]/doe(1)", "jane's/doe", "jürgen/doe"])
def test_paths_with_any_letters_are_their_last_names(folder: str) -> None:
    """Folders with a space, a bracket or an umlaut were published from there on, in texts above all."""
    path = f"/home/{folder}/agent.py"
    said = f'File "{path}", line 3\n"/home/{folder}/other.py", nor {path}: https://a.org/b c/d'
    record = {"config": {"agent": path, "think": "/think"}, "said": said, "command": f"covr-bench run --agent {path}"}
    names = names_of(record, [Path("/data/out")])
    told = json.dumps(shortened(record, names), ensure_ascii=False)
    told += shortened_lines("{half\n" + json.dumps({"text": said, "value": 0.1}) + "\n", names)
    assert not any(word in told for word in ("jane", "jürgen", "doe", "half"))
    assert told.count("agent.py") == 6 and told.count("other.py") == 2 and told.count("https://a.org/b c/d") == 2
    assert "/think" in told and '"value": 0.1' in told
    same = json.dumps({"value": 0.1, "text": "no path"}, separators=(",", ":")) + "\n"
    assert shortened_lines(same, names) == same


def test_a_stores_card_names_stand_ins_and_no_others_as_such(tmp_path: Path) -> None:
    store(tmp_path)
    record = provenance.read(run_folder(tmp_path, RUN) / PROVENANCE_FILE)
    rows = read(tmp_path)
    labels = ["vlm=Qwen/Qwen2.5-VL-3B-Instruct", "render=fast,vlm=tiny"]
    rows["labels"] = [labels[index % 2] for index in range(len(rows))]
    card = store_card([record], rows, "hf:me/mine", "")
    assert "Some rows are of stand-ins: `render=fast` (frames are drawn faster" in card
    assert "`vlm=tiny` (a small model made for tests" in card
    assert "Labels of rows: `vlm=Qwen/Qwen2.5-VL-3B-Instruct`." in card


def test_no_pickle_and_no_path_of_this_machine_is_published(tmp_path: Path) -> None:
    out, to = tmp_path / "secret-folder" / "results", tmp_path / "mine"
    agent = tmp_path / "private" / "mine.py"
    agent.parent.mkdir()
    agent.write_text(AGENT)
    config = store(out, str(agent))
    publish(out, config.run_id, to, "--no-video")
    for file in (path for path in to.rglob("*") if path.is_file()):
        assert file.suffix in (".md", ".json", ".jsonl", ".safetensors", ".png", ".py")
        for told in (b"secret-folder", tmp_path.name.encode(), str(Path.home()).encode() + b"/"):
            assert told not in file.read_bytes(), file


def test_an_agents_own_code_runs_only_if_trusted(tmp_path: Path) -> None:
    out, to = tmp_path / "results", tmp_path / "mine"
    agent = tmp_path / "mine.py"
    agent.write_text(AGENT)
    config = store(out, str(agent))
    publish(out, config.run_id, to, "--no-video")
    agent.unlink()
    with pytest.raises(UserError, match="read it, then give --trust-code"):
        covr_bench.load_policy(str(to))
    with covr_bench.load_policy(str(to), trust_code=True) as policy:
        assert policy.act(policy.env.reset(seed=0)[0]).shape == (1,)


def test_code_edited_since_training_or_needing_other_files_is_not_given_away(tmp_path: Path) -> None:
    """It was published beside the return of the code before; without its module, nobody could load it."""
    agent, out = tmp_path / "mine.py", tmp_path / "results"
    agent.write_text(AGENT)
    run_id = store(out, str(agent)).run_id
    file = run_folder(out, run_id) / PROVENANCE_FILE
    trained = provenance.read(file)
    trained["config"]["code"] = {"agent": code_hash(str(agent), "")}
    for session in trained["sessions"]:
        session["code"] = trained["config"]["code"]
    file.write_text(json.dumps(trained))
    agent.write_text(f"{AGENT}# faster\n")
    with pytest.raises(UserError, match=r"mine\.py, which was edited since: bring the old file back, or train anew"):
        publish(out, run_id, tmp_path / "a", "--no-video")
    (tmp_path / "my_nets.py").touch()
    agent.write_text(f"import my_nets\n{AGENT}")
    own = store(tmp_path / "own", str(agent)).run_id
    with pytest.raises(UserError, match=r"which imports my_nets from beside it: make one file of them"):
        publish(tmp_path / "own", own, tmp_path / "b", "--no-video")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("status", "said"), [("failed", "is failed"), ("interrupted", "is interrupted"), ("finished", "no final weights")]
)
def test_a_run_without_final_weights_is_refused(status: str, said: str, tmp_path: Path) -> None:
    out = tmp_path / "results"
    store(out)
    file = run_folder(out, RUN) / "provenance.json"
    file.write_text(json.dumps(provenance.read(file) | {"status": status}))
    shutil.rmtree(run_folder(out, RUN) / "checkpoint")
    with pytest.raises(UserError, match=said):
        publish(out, RUN, tmp_path / "mine", "--no-video")
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    store(tmp_path / "results")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        publish(tmp_path / "results", RUN, tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store(tmp_path / "results")
    for place in (tmp_path / "not" / "there", tmp_path / "results" / "runs" / RUN / "rows.jsonl" / "new"):
        with pytest.raises(UserError, match=f"cannot write to {place.parent}: "):
            publish(tmp_path, str(tmp_path / "results"), place)


def test_a_store_becomes_a_data_set(tmp_path: Path) -> None:
    out, to = tmp_path / "results", tmp_path / "data"
    for seed in (0, 1):
        store(out, seed=seed)
    broken = store(out, seed=2)
    (run_folder(out, broken.run_id) / "provenance.json").write_text("{")
    with pytest.warns(UserWarning, match="cannot read"):
        publish(out, str(out), to)
    rows = pd.read_parquet(to / "rows.parquet")
    assert sorted(set(rows["run_id"].astype(str))) == [RUN, RUN.replace("/0", "/1")]
    assert rows.loc[rows["kind"] == "eval", "value"].tolist() == [1.0, 1.0]
    assert len((to / "provenance.jsonl").read_text().splitlines()) == 2
    assert "2 finished" in (to / "README.md").read_text()


def test_the_card_of_a_store_counts_runs_with_rows(tmp_path: Path) -> None:
    out, to = tmp_path / "results", tmp_path / "data"
    for seed in (0, 1):
        store(out, seed=seed)
    (run_folder(out, RUN.replace("/0", "/1")) / ROWS_FILE).unlink()
    with pytest.warns(StoreWarning, match="drqv2/1 is finished and has no rows"):
        publish(out, str(out), to)
    card = (to / "README.md").read_text()
    assert "# 1 run of covr-bench" in card and "Runs by state: 1 finished." in card
    assert "| `catch@smoke/catch/drqv2` | 1 |" in card and "a line for each run, and for 1 more without rows:" in card


def test_a_policy_on_the_hub_is_loaded_by_its_name(tmp_path: Path) -> None:
    """By the client's own cache, offline: what it fetched before."""
    out = tmp_path / "results"
    store(out, init=5)
    repository = tmp_path / "cache" / "models--me--mine"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    publish(out, RUN, repository / "snapshots" / commit, "--no-video")
    code = "import covr_bench; p = covr_bench.load_policy('hf:me/mine'); print(p.config.run_id); p.close()"
    environ = os.environ | {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == RUN, done.stderr
    missing = subprocess.run(
        [sys.executable, "-m", "covr_bench", "eval", "hf:me/other"], env=environ, capture_output=True, text=True
    )
    assert missing.returncode == 2
    assert "cannot fetch hf:me/other" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_a_hub_that_does_not_answer_is_named_and_no_log_in_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own HTTP library has errors that are no OSError."""

    class ConnectError(Exception):
        pass

    class Api:
        def create_repo(self, **given: Any) -> None:
            raise ConnectError("Connection refused")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    store(tmp_path)
    with pytest.raises(UserError, match=r"cannot make hf:me/mine: Connection refused$"):
        publish(tmp_path, RUN, "hf:me/mine", "--no-video")


def test_an_empty_folder_may_be_a_link(tmp_path: Path) -> None:
    """Or a mount point: no folder can be moved into its place."""
    store(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    publish(tmp_path, RUN, tmp_path / "link", "--no-video")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "README.md").exists()
    assert not [path for path in (tmp_path / "disk").iterdir() if path.name.startswith("tmp")]


def test_what_is_sent_to_the_hub_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class Api:
        """Takes the place of the network: the client's two calls that `send` makes."""

        def create_repo(self, **given: Any) -> None:
            sent["made"] = given

        def upload_folder(self, *, folder_path: Path, **given: Any) -> None:
            sent["files"] = sorted(file.name for file in folder_path.iterdir())
            sent["to"] = given["repo_id"], given["repo_type"]

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    store(tmp_path)
    publish(tmp_path, RUN, "hf:me/mine", "--private", "--no-video")
    assert sent["made"] == {"repo_id": "me/mine", "repo_type": "model", "private": True, "exist_ok": True}
    assert sent["to"] == ("me/mine", "model")
    assert "README.md" in sent["files"]


@pytest.mark.parametrize("name", ["hf:", "hf:me", "hf:me/", "hf:me/my/model"])
def test_a_name_that_is_none_of_the_hub_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="write hf:USER/NAME"):
        hub.on_hub(name)


def test_where_the_hubs_client_is_missing_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'covr-bench\[hub\]'"):
        covr_bench.load_policy("hf:me/mine")
    with pytest.raises(UserError, match=r"pip install 'covr-bench\[hub\]'"):
        publish(tmp_path, RUN, "hf:me/mine")
