"""Downloads against real servers on this machine: mirrors, hosts in order, and all that can go wrong."""

import contextlib
import gzip
import hashlib
import http.server
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from aggregated_posterior.data import download
from aggregated_posterior.data.download import Patience, download_dataset
from aggregated_posterior.pipeline.schemas import load_registry
from aggregated_posterior.storage import DataError

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "workflow/schemas/datasets.schema.yaml"
SHARED = ROOT.parent / "shared" / "data"
NAME = "train-images-idx3-ubyte.gz"
CONTENT = gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 60_000) + bytes(range(250)) * 240, mtime=0)
# Incompressible, so that it is sent in several chunks.
LARGE = hashlib.shake_256(b"large").digest(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SHORT = Patience(connect=0.5, read=0.5, stall=0.6, total=1.5, rounds=2, backoff=0.01)
ONCE = Patience(connect=0.5, read=0.5, stall=0.6, total=1.5, rounds=1)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Neither a mirror nor a proxy of the machine that runs the tests."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", download.MIRROR_VARIABLE):
        monkeypatch.delenv(name, raising=False)


class Server:
    """An HTTP server whose answers a test writes: `answer(handler)` per request, every path on record."""

    def __init__(self, answer):
        self.paths = []
        self.released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.paths.append(self.path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    answer(self, outer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def send(handler, content, status=200, length=None, **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def good(handler, server):
    send(handler, CONTENT)


def missing(handler, server):
    send(handler, b"nothing here", status=404)


def broken(handler, server):
    send(handler, b"try later", status=503)


def other_content(handler, server):
    send(handler, b"<html>please log in to this network</html>")


def hang(handler, server):
    server.released.wait(10)


def hang_in_body(handler, server):
    send(handler, CONTENT[:100], length=len(CONTENT))
    handler.wfile.flush()
    server.released.wait(10)


def redirect(handler, server):
    send(handler, b"", status=302, Location=handler.path)


def truncate(handler, server):
    send(handler, CONTENT[:-50], length=len(CONTENT))


def truncate_silently(handler, server):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT[:-50])


def drip(handler, server):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    for byte in CONTENT:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if server.released.wait(0.02):
            return


def drip_headers(handler, server):
    for _ in range(1000):
        handler.wfile.write(b"X")
        handler.wfile.flush()
        if server.released.wait(0.02):
            return


def slow_chunks(handler, server):
    """Fast enough never to stall, too slow for the total time."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(LARGE)))
    handler.end_headers()
    for start in range(0, len(LARGE), download.CHUNK):
        handler.wfile.write(LARGE[start : start + download.CHUNK])
        handler.wfile.flush()
        if server.released.wait(0.3):
            return


def hang_up(handler, server):
    handler.connection.shutdown(socket.SHUT_RDWR)


def bad_length(handler, server):
    send(handler, CONTENT, length="many")


def fetch(folder, hosts, checksum=SHA256, mirror=None, patience=ONCE):
    with pytest.MonkeyPatch.context() as environment:
        if mirror is not None:
            environment.setenv(download.MIRROR_VARIABLE, mirror)
        download_dataset("tiny", {NAME: checksum}, hosts, [folder / NAME], patience)
    return (folder / NAME).read_bytes()


def assert_nothing_in(folder):
    assert not folder.exists() or not list(folder.iterdir())


# --- success ---


def test_a_file_is_fetched_once_and_kept(tmp_path, serve):
    server = serve(good)
    assert fetch(tmp_path, [server.address]) == CONTENT
    assert fetch(tmp_path, [server.address]) == CONTENT
    assert server.paths == [f"/{NAME}"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_right_file_needs_no_network(tmp_path, monkeypatch):
    (tmp_path / NAME).write_bytes(CONTENT)
    monkeypatch.setattr(socket, "socket", None)
    assert fetch(tmp_path, ["http://127.0.0.1:1/"]) == CONTENT


def test_a_wrong_file_is_fetched_again(tmp_path, serve):
    (tmp_path / NAME).write_bytes(CONTENT[:-5])
    assert fetch(tmp_path, [serve(good).address]) == CONTENT


def test_a_wrong_file_stays_while_nothing_better_is_had(tmp_path, serve):
    (tmp_path / NAME).write_bytes(b"old")
    with pytest.raises(DataError):
        fetch(tmp_path, [serve(missing).address])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_hosts_are_tried_in_order_and_again(tmp_path, serve):
    first, second = serve(missing), serve(missing)
    with pytest.raises(DataError):
        fetch(tmp_path, [first.address, second.address], patience=SHORT)
    assert len(first.paths) == len(second.paths) == 2
    third = serve(good)
    assert fetch(tmp_path, [first.address, third.address, second.address]) == CONTENT
    assert (len(first.paths), len(third.paths), len(second.paths)) == (3, 1, 2)


def test_an_interrupted_download_is_begun_anew_in_the_next_round(tmp_path, serve):
    def recover(handler, server):
        (truncate if len(server.paths) == 1 else good)(handler, server)

    server = serve(recover)
    assert fetch(tmp_path, [server.address], patience=SHORT) == CONTENT
    assert len(server.paths) == 2
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_of_several_files_only_the_missing_one_is_fetched(tmp_path, serve):
    (tmp_path / "a.gz").write_bytes(CONTENT)
    server = serve(good)
    files = {"a.gz": SHA256, "b.gz": SHA256}
    download_dataset("tiny", files, [server.address], [tmp_path / name for name in files], patience=ONCE)
    assert server.paths == ["/b.gz"]


def test_the_pause_before_a_later_round_doubles(tmp_path, serve, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    with pytest.raises(DataError):
        fetch(tmp_path, [serve(missing).address], patience=Patience(rounds=4, backoff=2.0))
    assert pauses == [2, 4, 8]


def test_a_body_labelled_as_encoded_is_kept_as_stored(tmp_path, serve):
    """Some servers send .gz files with Content-Encoding: gzip, and requests would unpack them."""
    server = serve(lambda handler, _: send(handler, CONTENT, Content_Encoding="gzip"))
    assert fetch(tmp_path, [server.address]) == CONTENT


def test_a_redirect_is_followed(tmp_path, serve):
    target = serve(good)
    server = serve(lambda handler, _: send(handler, b"", status=301, Location=target.address + NAME))
    assert fetch(tmp_path, [server.address]) == CONTENT


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_other_checksums_are_checked(tmp_path, serve, algorithm):
    server = serve(good)
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    assert fetch(tmp_path / "right", [server.address], f"{algorithm}:{digest}") == CONTENT
    with pytest.raises(DataError, match=f"wrong checksum: {algorithm}"):
        fetch(
            tmp_path / "wrong",
            [server.address],
            f"{algorithm}:{digest[:-1]}{'0' if digest[-1] != '0' else '1'}",
        )
    assert_nothing_in(tmp_path / "wrong")


def test_without_a_checksum_the_structure_is_checked(tmp_path, serve):
    assert fetch(tmp_path / "right", [serve(good).address], None) == CONTENT
    for answer, told in [(other_content, "not a gzip file"), (truncate_silently, "cut short")]:
        with pytest.raises(DataError, match=told):
            fetch(tmp_path / "wrong", [serve(answer).address], None)
        assert_nothing_in(tmp_path / "wrong")


# --- failures ---


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (missing, "HTTP 404"),
        (broken, "HTTP 503"),
        (other_content, "wrong checksum: sha256 of its 42 bytes"),
        (hang, "no answer within 0.5 s"),
        (hang_in_body, "no answer within 0.5 s"),
        (redirect, "redirects without end"),
        (truncate, "broke before the end"),
        (truncate_silently, "wrong checksum"),
        (drip, "too slow"),
        (drip_headers, "too slow"),
        (hang_up, "broke off without an answer"),
        (bad_length, "many"),
    ],
)
def test_a_bad_host_is_told_and_leaves_nothing(tmp_path, serve, answer, told):
    server = serve(answer)
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        fetch(tmp_path / "out", [server.address])
    message = str(caught.value)
    assert told in message, message
    assert message.startswith(f"tiny: {NAME} could not be fetched") and server.address in message
    assert len(message.splitlines()) == 1 and download.MIRROR_VARIABLE in message
    assert_nothing_in(tmp_path / "out")
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("answer", [missing, other_content, hang, redirect, truncate, drip])
def test_after_a_bad_host_comes_the_next(tmp_path, serve, answer):
    assert fetch(tmp_path, [serve(answer).address, serve(good).address]) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_the_total_time_is_limited(tmp_path, serve):
    with pytest.raises(DataError, match=r"too slow: \d+ bytes came, given up after 1\.5 s"):
        fetch(tmp_path / "out", [serve(slow_chunks).address], hashlib.sha256(LARGE).hexdigest())
    assert_nothing_in(tmp_path / "out")


def test_an_endless_body_is_cut_off(tmp_path, serve):
    server = serve(lambda handler, _: send(handler, LARGE))
    with pytest.raises(DataError, match="larger than 1000 bytes"):
        fetch(tmp_path / "out", [server.address], patience=Patience(rounds=1, maximum_bytes=1000))
    assert_nothing_in(tmp_path / "out")


def test_a_download_given_up_writes_nothing_later(tmp_path, serve):
    def late(handler, server):
        time.sleep(1.0)
        send(handler, CONTENT)

    with pytest.raises(DataError, match="too slow"):
        fetch(tmp_path, [serve(late).address], patience=Patience(read=5, stall=0.3, rounds=1))
    time.sleep(1.0)
    assert not list(tmp_path.iterdir())


def test_unreachable_hosts_are_told(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}/"
        with pytest.raises(DataError, match="connection refused"):
            fetch(tmp_path, [closed])
    with pytest.raises(DataError, match="no host is known"):
        fetch(tmp_path, [])
    with pytest.raises(DataError, match=r"name is not known|cannot be reached|no connection|too slow"):
        fetch(tmp_path, ["http://no-such-host.invalid/"])


def test_a_full_disc_is_not_the_hosts_fault(tmp_path, serve, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(download._Sink, "write", _write_to(Full()))
    server = serve(good)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(tmp_path, [server.address], patience=SHORT)
    assert not isinstance(caught.value, DataError) and len(server.paths) == 1
    assert not list(tmp_path.iterdir())


def _write_to(stream):
    original = download._Sink.write

    def write(self, chunk):
        self._stream = stream
        return original(self, chunk)

    return write


def test_outputs_that_the_registry_does_not_know_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"disagree on the file other\.gz"):
        download_dataset("tiny", {NAME: SHA256}, [], [tmp_path / NAME, tmp_path / "other.gz"])


# --- mirrors ---


def test_a_folder_is_a_mirror_with_and_without_the_data_sets_name(tmp_path, monkeypatch):
    flat, nested = tmp_path / "flat", tmp_path / "with space"
    (nested / "tiny").mkdir(parents=True)
    flat.mkdir()
    (flat / NAME).write_bytes(CONTENT)
    (nested / "tiny" / NAME).write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for number, mirror in enumerate([flat, "flat", "~/flat", flat.as_uri(), nested, nested.as_uri(), f"{flat}/"]):
        assert fetch(tmp_path / f"out{number}", [], mirror=str(mirror)) == CONTENT


def test_a_server_is_a_mirror_and_the_sub_folder_goes_first(tmp_path, serve):
    def nested(handler, server):
        (good if handler.path.startswith("/pub/tiny/") else missing)(handler, server)

    server = serve(nested)
    assert fetch(tmp_path / "a", [], mirror=server.address + "pub") == CONTENT
    assert server.paths == [f"/pub/tiny/{NAME}"]
    flat = serve(lambda handler, server: (missing if "/tiny/" in handler.path else good)(handler, server))
    assert fetch(tmp_path / "b", [], mirror=flat.address) == CONTENT
    assert flat.paths == [f"/tiny/{NAME}", f"/{NAME}"]


def test_the_mirror_goes_before_the_hosts(tmp_path, serve):
    mirror, host = serve(good), serve(good)
    fetch(tmp_path / "a", [host.address], mirror=mirror.address)
    assert (len(mirror.paths), len(host.paths)) == (1, 0)


def test_a_bad_mirror_gives_way_to_the_hosts(tmp_path, serve):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / NAME).write_bytes(CONTENT[:-1])
    server = serve(good)
    assert fetch(tmp_path / "out", [server.address], mirror=str(tmp_path / "mirror")) == CONTENT


@pytest.mark.parametrize(
    ("mirror", "told"),
    [
        ("/no/such/folder", "/no/such/folder/train-images-idx3-ubyte.gz: no such file"),
        ("file://otherhost/folder", "names the host otherhost"),
        ("ftp://127.0.0.1/", "ftp:// is not supported"),
        ("s3://bucket/", "s3:// is not supported"),
        ("http://", "http"),
    ],
)
def test_a_useless_mirror_is_told(tmp_path, mirror, told):
    with pytest.raises(DataError) as caught:
        fetch(tmp_path / "out", [], mirror=mirror)
    assert told in str(caught.value) and NAME in str(caught.value)
    assert_nothing_in(tmp_path / "out")


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="needs ../shared/data/mnist beside the checkout")
@pytest.mark.parametrize("mirror", [SHARED / "mnist", SHARED])
def test_mnist_comes_from_the_shared_mirror(tmp_path, monkeypatch, mirror):
    monkeypatch.setenv(download.MIRROR_VARIABLE, str(mirror))
    entry = load_registry(ROOT / "config" / "datasets.yaml", SCHEMA)["mnist"]
    outputs = [tmp_path / name for name in entry["files"]]
    download_dataset("mnist", entry["files"], [], outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(entry["files"])
