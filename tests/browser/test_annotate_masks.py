"""Masks that were painted elsewhere, brought to the page."""

import io
import json

import numpy as np
import pytest
from annotate_support import BACKSPACE, ENTER, Truth, launch, served
from PIL import Image

from stages.artifacts.annotations import Annotations

pytestmark = pytest.mark.slow

WORDS = ("d.h5", "k.h5", "-o", "a.h5", "--grace", "0")
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def truth(place):
    return Truth(place, "k.h5")


def mask_of(truth, query):
    return truth.data.mask(truth.queries.ids[truth.queries.image[query]])


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def bring(client, query, content, headers=PNG):
    status, told = client.send("POST", f"/mask/{query}", content, headers)
    return status, json.loads(told) if told.startswith(b"{") else told.decode()


def assert_simulated(place):
    """The ledger is that of the simulation but for the annotator."""
    people, simulated = Annotations(place / "a.h5"), Annotations(place / "k-simulated.h5")
    for column in ("image", "y", "x", "region", "round", "label", "state", "clicks", "seconds", "image_level"):
        assert np.array_equal(getattr(people.answers, column), getattr(simulated.answers, column)), column
    assert people.mask_ids == simulated.mask_ids
    for image in simulated.ids:
        assert np.array_equal(people.label_map(image), simulated.label_map(image))
    assert len(list((place / "a.h5.work").rglob("*.png"))) == 6, "only masks that answers refer to are kept"


def test_files_chosen_in_the_browser_give_the_ledger_of_the_simulation(place, browser, truth, tmp_path):
    browser.faults()  # those of other tests are read
    with served(*WORDS, cwd=place) as server:
        browser.open(server.address)
        state, query = browser.settle()
        first = query
        plain = browser.canvas()
        for number in range(6):
            assert state == "open"
            file = tmp_path / f"{number}.png"
            file.write_bytes(png(mask_of(truth, query)))
            browser.choose_file(file)
            assert "Press Enter to use this mask" in browser.text("#mode")
            assert "%" in browser.text("#mode")
            if number == 0:
                assert (browser.canvas() != plain).mean() > 0.1, "it lies over the image"
                assert (browser.canvas(marks=False) == plain).all()
            if number == 1:  # looked at again, and kept
                assert browser.press(BACKSPACE) == ("open", first)
                assert "earlier answer: this mask" in browser.text("#mode")
                assert browser.press(ENTER) == ("open", query)
                browser.choose_file(file)
            state, query = browser.press(ENTER)
        browser.wait_for("ended")
        assert server.end()[0] == 0
        assert browser.faults() == []
    assert_simulated(place)


def test_a_wrong_file_is_told_and_the_page_goes_on(place, browser, truth, tmp_path):
    with served(*WORDS, cwd=place) as server:
        browser.open(server.address)
        _, query = browser.settle()
        file = tmp_path / "small.png"
        file.write_bytes(png(mask_of(truth, query)[:50]))
        browser.choose_file(file)
        assert "differ in size (128x50 and 128x96)" in browser.text("#notice")
        file.write_bytes(png(mask_of(truth, query)))
        browser.choose_file(file)  # the same name again
        assert browser.text("#notice") == ""
        file.write_bytes(b"no mask")
        browser.choose_file(file)
        assert "cannot be decoded" in browser.text("#notice")
        assert browser.press(ENTER) == ("open", query), "Enter must not record the mask before"
        assert "The last file was refused. Press Enter again" in browser.text("#notice")
        file.write_bytes(png(mask_of(truth, query)))
        browser.choose_file(file)
        assert browser.press(ENTER)[1] != query
        assert server.process.poll() is None


def test_kills_lose_no_mask(place, truth):
    for number in range(6):
        with served(*WORDS, cwd=place) as server:
            client = server.client()
            situation = client.ask()
            assert situation["progress"]["answered"] == number
            query = situation["question"]["query"]
            _, other = bring(client, query, png(np.zeros_like(mask_of(truth, query))))
            status, told = bring(client, query, png(mask_of(truth, query)))
            assert status == 200
            assert other["mask"] != told["mask"]
            assert client.answer(situation, mask=told["mask"])[0] == 200
            if number < 5:
                server.kill()
            else:
                client.post("/leave")
                assert server.end()[0] == 0
    assert_simulated(place)


def test_masks_in_colours_or_with_another_price(place, truth):
    palette = truth.data.palette
    with served(*WORDS, "--clicks-per-mask", "7", "--seconds-per-mask", "8.5", cwd=place) as server:
        client = server.client()
        situation = client.ask()
        while situation["state"] == "open":
            query = situation["question"]["query"]
            mask = mask_of(truth, query)
            colours = np.full((*mask.shape, 3), 255, np.uint8)
            colours[mask < 255] = palette[mask[mask < 255]]
            _, told = bring(client, query, png(colours))
            _, situation = client.answer(situation, mask=told["mask"])
        client.post("/leave")
        assert server.end()[0] == 0
    people, simulated = Annotations(place / "a.h5"), Annotations(place / "k-simulated.h5")
    assert set(people.answers.clicks) == {7}
    assert set(people.answers.seconds) == {8.5}
    for image in simulated.ids:
        assert np.array_equal(people.label_map(image), simulated.label_map(image))


def test_a_lost_mask_is_told_at_the_next_start(place, truth):
    with served(*WORDS, cwd=place) as server:
        client = server.client()
        situation = client.ask()
        query = situation["question"]["query"]
        _, told = bring(client, query, png(mask_of(truth, query)))
        client.answer(situation, mask=told["mask"])
        server.kill()
    (file,) = (place / "a.h5.work").rglob(f"{query}-{told['mask']}.png")
    file.write_bytes(file.read_bytes()[:100])
    process = launch(*WORDS, cwd=place)
    out, err = process.communicate()
    assert process.returncode == 2, out
    assert "is missing or damaged. Remove the line" in err
    assert "Traceback" not in err


def test_a_begun_mask_is_there_again_after_a_stop(place, truth):
    with served(*WORDS, cwd=place) as server:
        query = server.client().ask()["question"]["query"]
        _, told = bring(server.client(), query, png(mask_of(truth, query)))
        server.process.terminate()
        assert server.end()[0] == 75
    with served(*WORDS, cwd=place) as server:
        situation = server.client().ask()
        assert (situation["question"]["query"], situation["draft"]) == (query, told["mask"])
        status, content = server.client().send("GET", f"/mask/{query}/{told['mask']}")
        assert (status, content) == (200, mask_of(truth, query).tobytes())


def test_hostile_uploads_are_refused_and_the_server_lives(place, truth):
    mask = mask_of(truth, 0)
    image = truth.queries.ids[truth.queries.image[0]]
    still_open, other, nothing = mask.copy(), np.where(mask == 0, 77, mask).astype(np.uint8), np.full_like(mask, 255)
    still_open[3, 4] = 254
    cases = [
        (0, png(mask)[:200], PNG, 422, "The file cannot be decoded"),
        (0, b"", PNG, 422, "cannot be decoded"),
        (0, b"<svg onload=alert(1)>", PNG, 422, "cannot be decoded"),
        (0, png(other), PNG, 422, "The file contains the values [77]"),
        (0, png(still_open), PNG, 422, "contains open pixels"),
        (0, png(nothing), PNG, 422, "contains no class"),
        (
            0,
            png(np.kron(mask, np.ones((2, 2), np.uint8))),
            PNG,
            422,
            f"about image {image} and the image differ in size",
        ),
        (0, png(mask), {}, 415, "Send a PNG file"),
        (6, png(mask), PNG, 404, "Unknown query"),
        ("../d.h5", png(mask), PNG, 405, ""),
        (0, b" " * ((1 << 26) + 1), PNG, 413, "larger than 67108864 bytes"),
        (0, png(mask), PNG | {"Origin": "https://evil.example"}, 403, "another site"),
        (0, png(mask), PNG | {"Authorization": None}, 403, "token"),
    ]
    with served(*WORDS, cwd=place) as server:
        client = server.client()
        for query, content, headers, code, says in cases:
            try:
                status, told = bring(client, query, content, headers)
            except (BrokenPipeError, ConnectionResetError):  # it hung up on what it would not read
                assert code == 413
                continue
            assert status == code, (told, says)
            assert says in str(told)
        situation = client.ask()
        place_of = situation["question"]["query"]
        for given, says in (
            ({"mask": "0" * 64}, "mask was not found"),
            ({"mask": "../../d.h5"}, "answer.mask"),
            ({"mask": ""}, "or a mask"),
            ({"classes": [1]}, "or a mask"),
            ({"skip": True}, "or a mask"),
            ({"void": True}, "or a mask"),
        ):
            status, told = client.answer(situation, **given)
            assert (status, says in told["message"]) == (422, True), told
        other = next(query for query in range(6) if query != place_of)
        _, told = bring(client, other, png(mask_of(truth, other)))
        assert client.answer(situation, mask=told["mask"])[0] == 422, "a mask of another image"
        assert client.send("GET", f"/mask/{other}/{told['mask']}")[0] == 200
        for path in (f"/mask/{place_of}/{told['mask']}", f"/mask/{other}/..%2f..%2fd.h5", f"/mask/{other}/zebra"):
            assert client.send("GET", path)[0] == 404
        assert client.post("/answer", client=client.name)[0] == 422
        assert server.process.poll() is None
    with served("d.h5", "i.h5", "-o", "b.h5", cwd=place) as server:
        client = server.client()
        assert bring(client, 0, png(mask))[0] == 404, "nobody asks for masks here"
        assert bring(client, 0, b" " * 70_000)[0] == 413
        assert client.answer(client.ask(), mask=told["mask"])[0] == 422


def test_uploads_at_once_do_not_mix(place, truth):
    """Many at a time for one query: everybody is told of the own file."""
    from concurrent.futures import ThreadPoolExecutor

    size = mask_of(truth, 0).shape
    with served(*WORDS, cwd=place) as server:

        def send(number):
            client = server.client()
            return [bring(client, 0, png(np.full(size, number % 9, np.uint8))) for _ in range(12)]

        with ThreadPoolExecutor(4) as pool:
            every = list(pool.map(send, range(4)))
    names = truth.data.classes
    for number, found in enumerate(every):
        assert {status for status, _ in found} == {200}
        assert {told["shown"].split("\N{NO-BREAK SPACE}")[0] for _, told in found} == {f"{names[number]} 100"}
        assert len({told["mask"] for _, told in found}) == 1


def test_other_formats_and_huge_images_are_refused_before_they_are_decoded(place, truth):
    mask = mask_of(truth, 0)
    gif, huge = io.BytesIO(), io.BytesIO()
    Image.fromarray(mask).save(gif, "GIF")
    Image.new("L", (9000, 9000)).save(huge, "PNG")
    with served(*WORDS, cwd=place) as server:
        client = server.client()
        for content, says in ((gif, "cannot be decoded as PNG"), (huge, "differ in size (9000x9000 and 128x96)")):
            status, told = bring(client, 0, content.getvalue())
            assert (status, says in told["message"]) == (422, True), told


def test_an_image_that_is_being_painted_is_asked_of_nobody_else(place):
    """Nothing is heard of it for an hour, while another window waits."""
    with served("d.h5", "k.h5", "-o", "a.h5", "--lease-minutes", "0.0001", cwd=place) as server:
        one, two = server.client(), server.client()
        two.name = "other"
        first = one.ask()["question"]["query"]
        assert two.ask()["question"]["query"] != first
        assert one.ask()["question"]["query"] == first


def test_no_other_command_replaces_what_people_answered(place, truth):
    from stages.commands import annotate_simulate
    from stages.runtime.errors import BadInput
    from stages.settings.annotate_simulate import AnnotateSettings

    with served("d.h5", "i.h5", "-o", "a.h5", "--grace", "0", cwd=place) as server:
        client = server.client()
        client.answer(client.ask(), classes=[1])
        client.post("/finish")
        client.post("/leave")
        assert server.end()[0] == 0
    before = (place / "a.h5").read_bytes()
    with pytest.raises(BadInput, match="holds answers given by people, which no command can recreate"):
        annotate_simulate.run(place / "d.h5", place / "i.h5", place / "a.h5", AnnotateSettings())
    assert (place / "a.h5").read_bytes() == before
