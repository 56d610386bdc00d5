"""What is read again is verified: flipped bits and cut files are found, rebuilt and said, never used."""

import os
import random
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from forged import forge
from worlds import random_masks, write_dataset

from stages.artifacts import verify
from stages.artifacts.opening import open_any
from stages.artifacts.verify import damage, verify_one
from stages.commands import extract_superpixels, score
from stages.regions import publishing
from stages.runtime.errors import Stopped
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.score import ScoreSettings
from stages.training.checkpoints import Checkpoints

BEFORE = Path(__file__).parents[1] / "data" / "before"
FILES = ["superpixels.h5", "clusters.h5", "scores-1.h5", "queries-1.h5", "annotations-1.h5", "pseudo_labels.h5",
         "evaluation.h5"]  # fmt: skip


def flips(size, number, seed=0):
    """Places of single bits spread over a file of ``size`` bytes: (byte, mask)."""
    draw = random.Random(seed)
    return [
        (size * place // number + draw.randrange(size // number), 1 << draw.randrange(8)) for place in range(number)
    ]


def flip(path, place, mask):
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    path.write_bytes(content)


JOINS = {extract_superpixels: publishing}  # where a stage joins its shards, if not in its own module


class TestShards:
    """A stage stopped before the join, whose shards are damaged before it goes on."""

    STAGES = (
        (score, lambda dataset, output: score.run(dataset, output, ScoreSettings(measure="random"))),
        (
            extract_superpixels,
            lambda dataset, output: extract_superpixels.run(
                dataset, output, ExtractSettings(method="grid", region_pixels=64, workers=1)
            ),
        ),
    )

    @pytest.fixture(params=STAGES, ids=["score", "extract-superpixels"])
    def stage(self, request, tmp_path, monkeypatch):
        """The module, its run(output), the digest of an undisturbed run, and the shards of one that was stopped."""
        module, run = request.param
        monkeypatch.setattr(module, "SHARD_IMAGES", 1)
        dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (16, 16), 3), 3)
        digest = open_any(run(dataset, tmp_path / "whole.h5")).digest

        def stopped(*arguments):
            raise Stopped("before the join")

        with monkeypatch.context() as patch:
            patch.setattr(JOINS.get(module, module), "join_shards", stopped)
            with pytest.raises(Stopped):
                run(dataset, tmp_path / "x.h5")
        shards = sorted((tmp_path / "x.h5.parts").iterdir())
        assert len(shards) == 2
        return module, lambda: run(dataset, tmp_path / "x.h5"), digest, shards

    def restore(self, folder, kept):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        folder.with_suffix("").unlink(missing_ok=True)

    def test_on_resume(self, stage, tmp_path, capsys):
        _, run, digest, shards = stage
        kept = shutil.copytree(shards[0].parent, tmp_path / "kept")
        told = 0
        for place, mask in flips(shards[1].stat().st_size, 40):
            self.restore(shards[0].parent, kept)
            flip(shards[1], place, mask)
            output = run()
            assert open_any(output).digest == digest, place
            assert verify_one(output)[0] == []
            told += f"{shards[1]} is damaged or of an older version; building it again\n" in capsys.readouterr().out
        assert told > 10  # other bits are in space that holds nothing

    def test_before_the_join(self, stage, monkeypatch, capsys):
        module, run, digest, shards = stage
        join = JOINS.get(module, module).join_shards

        def damaged(made, finish):
            flip(shards[0], shards[0].read_bytes().find(b"partial"), 1)
            return join(made, finish)

        monkeypatch.setattr(JOINS.get(module, module), "join_shards", damaged)
        assert open_any(run()).digest == digest
        assert capsys.readouterr().out.count("building it again") == 1

    def test_cut_files(self, stage, tmp_path):
        _, run, digest, shards = stage
        kept = shutil.copytree(shards[0].parent, tmp_path / "kept")
        for length in (0, 8, 100, shards[0].stat().st_size // 2, shards[0].stat().st_size - 1):
            self.restore(shards[0].parent, kept)
            os.truncate(shards[0], length)
            assert open_any(run()).digest == digest


class TestCheckpoints:
    STATE: ClassVar = {"weights": torch.arange(40.0), "progress": {"step": 7, "history": [{"loss": 1.5}]}}

    @pytest.fixture
    def checkpoints(self, tmp_path):
        made = Checkpoints(tmp_path / "m.safetensors", "k" * 64)
        for step in (1, 2):
            made.save(step, self.STATE | {"progress": {"step": step}})
        return made

    def test_a_flipped_bit_costs_the_steps_since_the_one_before(self, checkpoints, capsys):
        older, newest = checkpoints.paths()
        content = newest.read_bytes()
        for place, mask in flips(len(content), 200):
            newest.write_bytes(content)
            flip(newest, place, mask)
            assert checkpoints.load()["progress"]["step"] == 1, place
            told = capsys.readouterr().out
            assert told == f"{newest} is damaged; training the steps since the checkpoint before again\n"
        older.write_bytes(b"")
        assert checkpoints.load() is None
        newest.write_bytes(content)
        assert checkpoints.load()["progress"]["step"] == 2

    def test_a_damaged_one_does_not_displace_the_whole_ones(self, checkpoints):
        older, newest = checkpoints.paths()
        newest.write_bytes(b"damage")
        (damaged,) = set(checkpoints.paths()) - {older}
        later = damaged.rename(damaged.with_name(damaged.name.replace("2", "9", 1)))
        checkpoints.save(3, self.STATE)
        assert later not in checkpoints.paths()
        assert older in checkpoints.paths()
        assert checkpoints.load()["progress"]["step"] == 7


class TestUpToDate:
    """A stage finds what `verify` finds before it calls an output up to date."""

    @pytest.mark.parametrize("name", FILES)
    def test_a_flipped_bit_is_found_or_changes_nothing(self, name, tmp_path):
        path = forge(BEFORE / name, tmp_path / name, lambda attributes, arrays: None)
        whole, content = described(path), path.read_bytes()
        assert damage(path) is None
        found = 0
        for place, mask in flips(len(content), 60):
            path.write_bytes(content)
            flip(path, place, mask)
            if damage(path) is None:
                assert described(path) == whole, place
            else:
                found += 1
        assert found > 15

    def test_models(self, tmp_path):
        path = tmp_path / "model.safetensors"
        content = (BEFORE / path.name).read_bytes()
        for place, mask in flips(len(content), 40):
            path.write_bytes(content)
            flip(path, place, mask)
            assert damage(path) is not None, place

    @pytest.mark.parametrize("name", FILES)
    def test_of_large_files_all_but_the_pixels(self, name, tmp_path, monkeypatch):
        monkeypatch.setattr(verify, "SMALL_FILE", 0)
        path = forge(BEFORE / name, tmp_path / name, lambda attributes, arrays: None)
        assert damage(path) is None
        content = path.read_bytes()
        for share in (0.2, 0.5, 0.9, 0.999):
            path.write_bytes(content[: int(len(content) * share)])
            assert damage(path) is not None
        path.write_bytes(content)
        _, arrays = described(path)
        for checksum in {checksum for _, _, checksum in arrays.values()}:
            changed = content.replace(checksum.encode(), checksum[::-1].encode())
            assert changed != content
            path.write_bytes(changed)
            assert damage(path) is not None

    def test_a_stage_rebuilds_what_it_would_have_called_up_to_date(self, tmp_path, capsys):
        dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (32, 32), 3), 3)
        settings = ScoreSettings(measure="random")
        output = score.run(dataset, tmp_path / "s.h5", settings)
        digest, content = open_any(output).digest, bytearray(output.read_bytes())
        with open_any(output) as scores:
            chunk = scores.file["scores/a"].id.get_chunk_info(0)
        content[chunk.byte_offset + chunk.size // 2] ^= 1
        output.write_bytes(content)
        score.run(dataset, output, ScoreSettings(measure="random", trust=True))
        assert f"{output} is up to date" in capsys.readouterr().out
        assert output.read_bytes() == bytes(content)
        score.run(dataset, output, settings)
        told = capsys.readouterr().out
        assert f"rebuilding {output}: the existing file is damaged ({output} is damaged at scores/a." in told
        assert open_any(output).digest == digest
        score.run(dataset, output, settings)
        assert f"{output} is up to date" in capsys.readouterr().out


def described(path):
    """The header and the checksums of a file, as read."""
    with open_any(path) as artifact:
        return artifact.header, artifact.checksums()
