"""A server of `alseg annotate` as a process, a plain client for it, and a browser driven by keys."""

import base64
import contextlib
import http.client
import io
import json
import re
import signal
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image
from programs import Piped, Server

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.pixels.void import VOID

PATIENCE = 120
CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
ENTER, BACKSPACE = "\ue007", "\ue003"  # as WebDriver writes them
DESCRIPTION = """
name = "tiny"
classes = [
    { name = "sky", color = [70, 130, 180] },
    { name = "building", color = [70, 70, 70] },
    { name = "road", color = [128, 64, 128] },
    { name = "pavement", color = [244, 35, 232] },
    { name = "grass", color = [152, 251, 152] },
    { name = "tree", color = [107, 142, 35] },
    { name = "car", color = [0, 0, 142] },
    { name = "pole", color = [153, 153, 153] },
    { name = "person", color = [220, 20, 60] },
]
[generator]
name = "scenes"
height = 96
width = 128
images = { train = 6 }
"""
KEYS = "1234567890qwertyuiop"  # of the first classes, less those of commands, of which there are none among them


@dataclass
class Served:
    """A running server: its process and the address it printed."""

    process: Piped
    address: str
    told: str  # what it said before

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.address).query)["token"][0]

    @property
    def port(self) -> int:
        return urlsplit(self.address).port

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said, once it ends by itself."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert "Traceback" not in out + err, err
        return self.process.returncode, out + err

    def client(self) -> "Client":
        return Client(self.port, self.token)


def answers_in(journal: Path) -> list[dict]:
    """The lines of a journal that are answers, oldest first."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return [line for line in lines if "query" in line]


@cache
def forks() -> Server:
    """Forks commands; it ends with this process, which then closes its standard input."""
    return Server()


def launch(*words: object, cwd: Path) -> Piped:
    return Piped(forks(), ("annotate", *words), cwd)


@contextlib.contextmanager
def served(*words: object, cwd: Path):
    """`alseg annotate` with ``words``, killed at the end if it still runs."""
    process = launch(*words, cwd=cwd)
    try:
        told = ""
        for line in process.stdout:
            if found := re.fullmatch(r"answer at (http://\S+)\n", line):
                break
            told += line
        else:
            raise AssertionError(f"no address: {told} {process.stderr.read()}")
        yield Served(process, found[1], told)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        process.stdout.close()
        process.stderr.close()


class Client:
    """A plain HTTP client with the token; one of its own browser to the server."""

    def __init__(self, port: int, token: str, name: str = "plain", annotator: str = "somebody"):
        self.port, self.name, self.annotator = port, name, annotator
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, bytes]:
        """Status and body; ``headers`` replace the usual ones, those that are None are left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            every = self.headers | (headers or {})
            every = {name: value for name, value in every.items() if value is not None}
            connection.request(method, path, body, every)
            response = connection.getresponse()
            return response.status, response.read()

    def post(self, path: str, **values: object) -> tuple[int, dict]:
        status, content = self.send("POST", path, json.dumps({"client": self.name, **values}).encode())
        return status, json.loads(content or b"{}")

    def ask(self) -> dict:
        status, situation = self.post("/next", annotator=self.annotator)
        assert status == 200, situation
        return situation

    def body(self, situation: dict, **given: object) -> dict:
        """The answer ``given`` to the query shown."""
        question = situation["question"]
        place = {name: question[name] for name in ("query", "image", "y", "x", "region")}
        answer = place | {"classes": [], "seconds": 0.5, "annotator": self.annotator} | given
        return {"annotator": self.annotator, "revision": situation["revision"], "answer": answer}

    def answer(self, situation: dict, **given: object) -> tuple[int, dict]:
        return self.post("/answer", **self.body(situation, **given))


class Truth:
    """The keys that a person who knows everything presses, per query."""

    def __init__(self, folder: Path, queries: str, superpixels: str | None = None):
        self.data, self.queries = Dataset(folder / "d.h5"), Queries(folder / queries)
        self.regions = None if superpixels is None else Superpixels(folder / superpixels)

    def below(self, query: int) -> np.ndarray:
        """The true classes of what is asked about."""
        image = self.queries.ids[self.queries.image[query]]
        mask = self.data.mask(image)
        if self.queries.unit == "image":
            return mask.ravel()
        if self.regions is None:
            return mask[self.queries.y[query], self.queries.x[query]].reshape(1)
        return mask[self.regions.labels(image) == self.queries.region[query] - self.regions.rows[image].start]

    def keys(self, query: int) -> list[str]:
        found = self.below(query)
        if self.queries.answer == "class-set":
            return [*(key_of(label) for label in np.unique(found)), ENTER]
        if self.queries.unit == "image":
            found = found[found != VOID]
        if self.queries.answer == "image-classes":
            return [*(key_of(label) for label in np.unique(found)), ENTER]
        return [key_of(np.bincount(found).argmax())]

    def label(self, query: int) -> int:
        return int(self.below(query)[0])

    def given(self, query: int) -> dict[str, object]:
        """The answer as the page would send it; of pixels."""
        label = self.label(query)
        return {"void": True} if label == VOID else {"classes": [label]}


def key_of(label: int) -> str:
    return "v" if label == VOID else KEYS[label]


class Browser:
    """A real Chromium with one page."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))

    def open(self, address: str) -> None:
        self.driver.get(address)
        self.settle()

    def forget_name(self) -> None:
        """Forgets the annotator of pages before."""
        self.driver.delete_all_cookies()

    def do(self, script: str, *arguments: object):
        return self.driver.execute_script(script, *arguments)

    def state(self) -> tuple[str, int | None]:
        """What the page is at, and the query that it takes keys for."""
        return self.look()[:2]

    def look(self) -> tuple[str, int | None, bool]:
        """That, and whether it is busy: all of one moment."""
        script = "const b = document.body; return [b.dataset.state, b.dataset.query ?? null, b.ariaBusy === 'true']"
        state, query, busy = self.do(script)
        return state, None if query is None else int(query), busy

    def settle(self) -> tuple[str, int | None]:
        """Waits until keys count again, or the page has nothing to ask."""
        deadline = time.monotonic() + PATIENCE
        while True:
            state, query, busy = self.look()
            if query is not None or state in ("waiting", "ending", "ended") or (state == "complete" and not busy):
                return state, query
            assert time.monotonic() < deadline, self.text("body") + str(self.driver.get_log("browser"))
            time.sleep(0.005)

    def wait_for(self, state: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.state()[0] != state:
            assert time.monotonic() < deadline, f"{self.state()} {self.text('body')}"
            time.sleep(0.01)

    def press(self, *keys: str) -> tuple[str, int | None]:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()
        return self.settle()

    def choose_file(self, file: Path) -> None:
        """As if it had been picked in the dialog that the browser opens; waits until the page has looked at it."""
        from selenium.webdriver.common.by import By

        self.do("document.querySelector('#file').value = ''")
        self.driver.find_element(By.ID, "file").send_keys(str(file))
        deadline = time.monotonic() + PATIENCE
        while self.do("return document.querySelector('#file').value !== ''"):  # the page empties it at the end
            assert time.monotonic() < deadline, self.text("body")
            time.sleep(0.005)

    def canvas(self, marks: bool = True) -> np.ndarray:
        """What is drawn of the image, (H,W,3) int; without ``marks`` as it looks while Space is held."""
        hold = "document.dispatchEvent(new KeyboardEvent(arguments[0], {key: ' '}))"
        if not marks:
            self.do(hold, "keydown")
        drawn = self.driver.execute_async_script(
            "const drawn = () => {"
            " const [image, marks] = ['#view', '#marks'].map((name) => document.querySelector(name));"
            " const both = Object.assign(document.createElement('canvas'), {width: image.width, height: image.height});"
            " for (const layer of [image, marks]) both.getContext('2d').drawImage(layer, 0, 0);"
            " arguments[0](both.toDataURL()); };"
            "requestAnimationFrame(() => requestAnimationFrame(drawn))"
        )
        self.do(hold, "keyup")
        picture = Image.open(io.BytesIO(base64.b64decode(drawn.partition(",")[2]))).convert("RGB")
        return np.asarray(picture).astype(int)

    def text(self, selector: str) -> str:
        return self.do("return document.querySelector(arguments[0]).innerText", selector)

    def click(self, selector: str) -> None:
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def answer_all(self, truth: Truth, most: int | None = None) -> list[int]:
        """Presses the right keys until nothing is asked any more, or ``most`` queries are answered: these queries."""
        answered: list[int] = []
        state, query = self.settle()
        while state == "open" and len(answered) != most:
            answered.append(query)
            state, query = self.press(*truth.keys(query))
        return answered

    def faults(self) -> list[str]:
        """What the browser complained about, such as a breach of the page's own policy.

        Not what the network did: a page may still be asking when its server ends, and says so to people itself.
        """
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in messages if "net::ERR_" not in message]

    def close(self) -> None:
        self.driver.quit()


def assert_same_answers(people: Path, simulated: Path, but: tuple[str, ...] = ()) -> None:
    """Two ledgers say the same, but for who answered, how long it took, and what no person knows."""
    mine, theirs = Annotations(people), Annotations(simulated)
    assert mine.ids == theirs.ids
    assert mine.sizes == theirs.sizes
    assert mine.region_files == theirs.region_files
    assert mine.attributes == theirs.attributes
    columns = ("image", "y", "x", "region", "superpixels", "round", "label", "state", "clicks", "image_level")
    for name in (*columns, "class_sets"):
        if name not in but:
            assert np.array_equal(getattr(mine.answers, name), getattr(theirs.answers, name)), name
    for name in ("offsets", "start", "length"):
        assert np.array_equal(getattr(mine.answers.areas, name), getattr(theirs.answers.areas, name)), name
    assert not mine.answers.votes.any()
