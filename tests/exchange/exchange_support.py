"""What the tests of exported and imported files share."""

import csv
import json

import pytest
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.commands import export_queries, import_answers
from stages.runtime.errors import BadInput
from stages.settings.import_answers import ImportSettings


def exported(one, output, ledger=None):
    return export_queries.run(one.dataset, one.queries, output, one.regions, ledger)


def imported(one, answers, output, force=False, **settings):
    made = ImportSettings(**settings)
    return import_answers.run(one.dataset, one.queries, answers, output, made, None, one.regions, force)


def refused(one, answers, output, says, **settings):
    with pytest.raises(BadInput, match=says):
        imported(one, answers, output, **settings)
    assert not output.exists()


def truth_of(one):
    with Dataset(one.dataset) as data:
        return {image: data.mask(image) for image in data.all_ids}


def write_masks(folder, one, change=lambda mask: mask, mode="L"):
    """The masks of the dataset as PNG."""
    for image, mask in truth_of(one).items():
        path = folder / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(mask)).convert(mode).save(path)
    return folder


def document_of(one, tmp_path, name="c.coco.json"):
    return json.loads(exported(one, tmp_path / name, one.ledger).read_bytes())


def written(tmp_path, document, name="changed.json"):
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return path


def rows_of(one, tmp_path, name="t.csv"):
    with exported(one, tmp_path / name).open() as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
