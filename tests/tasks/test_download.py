"""Downloads, from a server on the loopback that serves small files of the real formats."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small import cifar_archive, idx_files

from etude import tasks
from etude.errors import DataError
from etude.spec.study import Study
from etude.tasks import cifar10, download, fashion_mnist
from etude.tasks.download import Remote

CONTENT = bytes(range(256)) * 2_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """Serves ``files`` by path and counts what is asked for; a path with a dash does something else."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                name = self.path.lstrip("/")
                outer.asked.append(name)
                if name not in outer.files:
                    self.send_error(404)
                    return
                if name.startswith("slow-"):
                    time.sleep(1.0)
                    return
                body = outer.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name.startswith("half-") else body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def offer(self, name, content=CONTENT, md5=None):
        self.files[name] = content
        return Remote(url=f"{self.address}/{name}", md5=md5 or hashlib.md5(content).hexdigest())

    def stop(self):
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    monkeypatch.setenv("ETUDE_CACHE", str(folder))
    return folder


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def refusal(remote):
    with pytest.raises(DataError) as told:
        download.fetch(remote, "set")
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_file_is_downloaded_once_into_the_cache(server, cache):
    remote = server.offer("data.gz")
    path = download.fetch(remote, "set")
    assert path == cache / "set" / "data.gz"
    assert path.read_bytes() == CONTENT
    assert download.fetch(remote, "set") == path
    assert server.asked == ["data.gz"]
    assert files_in(cache) == ["data.gz"]


def test_downloading_says_nothing_and_leaves_poochs_logger_as_it_was(server, cache, capfd):
    import pooch

    before = pooch.get_logger().level
    download.fetch(server.offer("data.gz"), "set")
    assert capfd.readouterr() == ("", "")
    assert pooch.get_logger().level == before != logging.WARNING


def test_a_file_put_there_by_hand_is_taken_without_a_network(server, cache):
    remote = server.offer("data.gz")
    server.stop()
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "data.gz").write_bytes(CONTENT)
    assert download.fetch(remote, "set").read_bytes() == CONTENT
    assert server.asked == []


def test_a_corrupt_file_in_the_cache_is_downloaded_again(server, cache):
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "data.gz").write_bytes(CONTENT[:-1])
    assert download.fetch(server.offer("data.gz"), "set").read_bytes() == CONTENT
    assert files_in(cache) == ["data.gz"]


def test_the_users_cache_folder_is_the_usual_place(monkeypatch, tmp_path):
    import platformdirs

    monkeypatch.delenv("ETUDE_CACHE", raising=False)
    assert download.cache_folder() == Path(platformdirs.user_cache_dir("etude", appauthor=False))
    monkeypatch.setenv("ETUDE_CACHE", "~/elsewhere")
    assert download.cache_folder() == Path.home() / "elsewhere"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("half-data.gz", "the connection broke off"),
        ("bad-data.gz", f"what came is not the file with md5 {'0' * 32}"),
        ("slow-data.gz", "no answer within 0.2 s"),
    ],
)
def test_a_download_that_goes_wrong_leaves_nothing_behind(server, cache, monkeypatch, name, said):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2 if name.startswith("slow-") else 30.0)
    remote = server.offer(name, md5="0" * 32 if name.startswith("bad-") else None)
    assert f": it could not be downloaded from {remote.url}: {said}" in refusal(remote)
    assert files_in(cache) == []


def test_a_download_that_goes_wrong_leaves_a_corrupt_file_as_it_was(server, cache):
    (cache / "set").mkdir(parents=True)
    (cache / "set" / "half-data.gz").write_bytes(b"mine")
    assert "the connection broke off" in refusal(server.offer("half-data.gz"))
    assert (cache / "set" / "half-data.gz").read_bytes() == b"mine"
    assert files_in(cache) == ["half-data.gz"]


def test_a_missing_page_is_told_with_the_servers_words(server, cache):
    assert "the server answered 404 Not Found" in refusal(Remote(url=f"{server.address}/none.gz", md5=MD5))


def test_without_a_network_the_message_says_what_to_do(server, cache):
    remote = server.offer("data.gz")
    server.stop()
    assert refusal(remote) == (
        f"{cache / 'set' / 'data.gz'}: it could not be downloaded from {remote.url}: Connection refused; put the file "
        f"(md5 {MD5}) there by hand, name another folder with ETUDE_CACHE, or give the task root=DIR"
    )


def test_a_cache_that_cannot_be_a_folder_is_told(server, cache):
    cache.write_text("a file")
    assert "data.gz: it could not be downloaded from" in (said := refusal(server.offer("data.gz")))
    assert "Not a directory" in said or "File exists" in said
    assert server.asked == []


# The two tasks that download

FULL = {"fashion-mnist": 20, "cifar10": 10}  # test images of the small sets below


@pytest.fixture
def small_fashion(server, cache, monkeypatch):
    """Fashion-MNIST with 40 and 20 images, offered by the server."""
    contents = idx_files(train=40, test=20)
    remote = tuple(server.offer(f"{name}.gz", gzip.compress(content)) for name, content in contents.items())
    files = {name: (len(content), hashlib.md5(content).hexdigest()) for name, content in contents.items()}
    monkeypatch.setattr(fashion_mnist, "REMOTE", remote)
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    return contents


@pytest.fixture
def small_cifar(server, cache, monkeypatch):
    """CIFAR-10 with 10 images a batch, offered by the server."""
    archive, batches = cifar_archive(10)
    monkeypatch.setattr(cifar10, "ARCHIVE", server.offer("cifar-10-binary.tar.gz", archive))
    monkeypatch.setattr(cifar10, "IMAGES_A_BATCH", 10)
    return batches


def test_fashion_mnist_is_downloaded_and_read(server, cache, small_fashion):
    made = tasks.make("fashion-mnist", {})
    assert made.train.inputs.shape == (40, 1, 28, 28)
    assert made.val.inputs.shape == (20, 1, 28, 28)
    assert made.train.inputs.numpy().tobytes() == small_fashion["train-images-idx3-ubyte"][16:]
    assert bytes(made.val.targets.tolist()) == small_fashion["t10k-labels-idx1-ubyte"][8:]
    assert files_in(cache / "fashion-mnist") == sorted(f"{name}.gz" for name in small_fashion)
    server.stop()
    assert tasks.make("fashion-mnist", {}).train.digest() == made.train.digest()


def test_fashion_mnist_is_read_from_torchvisions_folder_without_a_download(server, cache, small_fashion, tmp_path):
    folder = tmp_path / "data" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in small_fashion.items():
        (folder / name).write_bytes(content)
    there = tasks.make("fashion-mnist", {"root": str(tmp_path / "data")})
    assert server.asked == []
    assert not cache.exists()
    assert there.train.digest() == tasks.make("fashion-mnist", {}).train.digest()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: the file is missing.* expected Fashion-MNIST's four"):
        tasks.make("fashion-mnist", {"root": tmp_path / "data"})


def test_cifar10_is_downloaded_and_read(server, cache, small_cifar):
    made = tasks.make("cifar10", {})
    assert made.train.inputs.shape == (50, 3, 32, 32)
    assert made.val.inputs.shape == (10, 3, 32, 32)
    pixels, labels = small_cifar["data_batch_2"]
    assert np.array_equal(made.train.inputs[10:20].numpy(), pixels.reshape(10, 3, 32, 32))
    assert made.train.targets[10:20].tolist() == labels.tolist()
    assert made.val.targets.tolist() == small_cifar["test_batch"][1].tolist()
    assert files_in(cache) == ["cifar-10-binary.tar.gz"]  # read where it lies, not unpacked
    server.stop()
    assert tasks.make("cifar10", {}).train.digest() == made.train.digest()


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_a_study_of_a_downloaded_task_runs_with_a_holdout(small_fashion, small_cifar, tmp_path, name):
    study = Study.default(name).replace(
        recipe={"optimizer": "sgd", "batch_size": 10}, lrs=[1e-3, 1e-2], epochs=1, holdout=10
    )
    result = study.run(tmp_path / "run", executor="inline")
    assert result.complete
    assert result.chosen_on_test_set is None
    data = result.stored.identity["data"]
    assert (data["train"]["examples"], data["val"]["examples"]) == (len(study.make_task().train), 10)
    assert len(study.make_task().test) == FULL[name]


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_without_a_network_a_study_leaves_no_run_behind(
    server, small_fashion, small_cifar, etude_command, tmp_path, name
):
    server.stop()
    said = etude_command("run", name)
    assert (said.status, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "it could not be downloaded from http://127.0.0.1:" in said.err
    assert "root=DIR" in said.err
    assert not (tmp_path / "runs" / name).exists()


def test_the_addresses_and_checksums_are_those_that_are_published():
    assert [remote.name for remote in fashion_mnist.REMOTE] == [f"{name}.gz" for name in fashion_mnist.FILES]
    # As torchvision lists them, and https://www.cs.toronto.edu/~kriz/cifar.html.
    assert {remote.md5 for remote in fashion_mnist.REMOTE} == {
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
    }  # fmt: skip
    assert cifar10.ARCHIVE.md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert (cifar10.FACTS["train"], cifar10.FACTS["val"]) == (5 * cifar10.IMAGES_A_BATCH, cifar10.IMAGES_A_BATCH)
    assert fashion_mnist.FILES["train-images-idx3-ubyte"][0] == 16 + 28 * 28 * fashion_mnist.FACTS["train"]
    assert fashion_mnist.FILES["t10k-images-idx3-ubyte"][0] == 16 + 28 * 28 * fashion_mnist.FACTS["val"]
