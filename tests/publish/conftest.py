"""A Hub on the loopback, a process that is its client, and a trained model to publish."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.publish import clients
from tests.publish.loopback_hub import TOKEN, USER, LoopbackHub
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.data.datasets.motion import prepare_motion


@pytest.fixture(scope="session")
def server() -> Iterator[LoopbackHub]:
    hub = LoopbackHub({TOKEN: USER}, part_size=1 << 20)
    yield hub
    hub.stop()


@pytest.fixture
def hub(server: LoopbackHub) -> LoopbackHub:
    """The Hub, empty and in order."""
    server.repositories.clear()
    server.storage.clear()
    server.faults.clear()
    server.requests.clear()
    return server


@pytest.fixture(scope="session")
def settings(server: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a client of the loopback Hub."""
    home = str(tmp_path_factory.mktemp("hf_home"))
    return {
        "HF_ENDPOINT": server.address,
        "HF_HOME": home,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "no_proxy": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def pool(settings: dict[str, str]) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=clients.set_up, initargs=(settings,)) as pool:
        yield pool


@pytest.fixture
def client(
    pool: ProcessPoolExecutor, server: LoopbackHub, settings: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., clients.Outcome]]:
    """Calls a function of `clients` in the client's process; in the end the token must not be found anywhere."""
    outcomes = []

    def run(function: Callable[..., Any], *arguments: Any, token: str = TOKEN, **environment: str) -> clients.Outcome:
        environment = {"HF_TOKEN": token, **environment}
        outcomes.append(pool.submit(clients.call, function, arguments, environment).result(clients.LIMIT_SEC + 20))
        return outcomes[-1]

    yield run
    assert not any(TOKEN in f"{item.value} {item.error} {item.output}" for item in outcomes)
    folders = (tmp_path, Path(settings["HF_HOME"]))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    published = [
        blob for item in server.repositories.values() for files in item.commits.values() for blob in files.values()
    ]
    assert not [blob for blob in published if TOKEN.encode() in blob.data]


@pytest.fixture(scope="session")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a short training left: best/ in the folder of its run."""
    folder = tmp_path_factory.mktemp("trained")
    data = prepare_motion(folder / "motion", workers=1, progress=False, train_per_class=1, val_per_class=1)
    arguments = ["--dataset", "motion", "--data-dir", str(data), "--output", str(folder), "--experiment", "run"]
    arguments += ["--img-size", "32", "--num-frames", "4", "--batch-size", "6", "--epochs", "1", "--workers", "0"]
    assert train_main(arguments) == 0
    return folder / "run" / "best"
