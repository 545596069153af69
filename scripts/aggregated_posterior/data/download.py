"""Fetch a data set's files from a mirror or public hosts; only a checked file ever has its final name."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from ..storage import DataError, atomic_path
from ..text import for_terminal, reason
from .idx import read_idx

MIRROR_VARIABLE = "AGGREGATED_POSTERIOR_MIRROR"
CHUNK = 16 * 1024


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how much to accept.

    Attributes:
        connect: For a connection.
        read: For the next bytes of an answer.
        stall: For the next 16 KiB; a server that drips a byte now and then satisfies `read`, but not this.
        total: For one file from one host.
        rounds: How often the whole list of hosts is tried.
        backoff: Pause before the second round; it doubles before each later one.
        maximum_bytes: Largest file accepted.
    """

    connect: float = 10.0
    read: float = 30.0
    stall: float = 60.0
    total: float = 1800.0
    rounds: int = 2
    backoff: float = 2.0
    maximum_bytes: int = 2 * 1024**3


class _Refusal(Exception):
    """Why one address did not deliver: a few words that complete 'address: …'."""


def download_dataset(
    dataset: str,
    files: Mapping[str, str | None],
    hosts: Sequence[str],
    outputs: Sequence[str | Path],
    patience: Patience | None = None,
) -> None:
    """Fetch every file of a data set that is not there yet.

    Each file is tried at the mirror that the environment variable AGGREGATED_POSTERIOR_MIRROR names (a folder, a
    file:// or an http(s):// address), then at the hosts in their order, then at all of them again after a pause. It is
    written beside its final name, checked against its checksum (without one: read as an idx file from end to end), and
    only then renamed. An interrupted file is begun anew; files that are there and right are kept without touching the
    network.

    Args:
        dataset: The data set's name; a mirror may hold the files in a sub-folder of that name.
        files: File name → SHA-256, `algorithm:digits`, or None where no sum has been published.
        hosts: Addresses to which a name is appended.
        outputs: Where the files go; their names are the keys of `files`.
        patience: Time and size limits.

    Raises:
        DataError: A file could not be had anywhere; the message tells each address with its reason.
    """
    patience = patience or Patience()
    unknown = sorted({Path(output).name for output in outputs} ^ set(files))
    if unknown:
        raise DataError(f"{dataset}: the outputs and the registry disagree on the file {unknown[0]}")
    mirror = os.environ.get(MIRROR_VARIABLE)
    for output in map(Path, outputs):
        if output.exists():
            try:
                check_file(output, files[output.name], output.name)
                continue
            except _Refusal as refusal:
                print(for_terminal(f"{output}: {refusal}; it is fetched again"), file=sys.stderr)
        fetch_file(dataset, output, files[output.name], [mirror] if mirror else [], hosts, patience)


def fetch_file(
    dataset: str,
    output: Path,
    checksum: str | None,
    mirrors: Sequence[str],
    hosts: Sequence[str],
    patience: Patience,
) -> None:
    """Fetch one file from the first address that delivers it whole (see `download_dataset`)."""
    # The sub-folder goes first: MNIST, Fashion-MNIST and KMNIST give their files the same names.
    addresses = [_join(mirror, *parts, output.name) for mirror in mirrors for parts in ((dataset,), ())] + [
        _join(host, output.name) for host in hosts
    ]
    reasons: dict[str, str] = {}
    for attempt in range(patience.rounds):
        if attempt:
            time.sleep(patience.backoff * 2 ** (attempt - 1))
        for address in addresses:
            try:
                with atomic_path(output) as temporary:
                    _fetch(address, temporary, patience)
                    check_file(temporary, checksum, output.name)
            except _Refusal as refusal:
                reasons[address] = str(refusal)
                if address.startswith("http"):
                    print(for_terminal(f"{address}: {refusal}"), file=sys.stderr)
            else:
                print(for_terminal(f"{output.name}: fetched from {address}"), file=sys.stderr)
                return
    told = "; ".join(f"{address}: {reason}" for address, reason in reasons.items()) or "no host is known"
    raise DataError(
        f"{dataset}: {output.name} could not be fetched ({told}); "
        f"put the files in a folder and name it: mirror in the config or {MIRROR_VARIABLE} in the environment"
    )


def check_file(path: Path, checksum: str | None, name: str) -> None:
    """Compare a file with its checksum, or without one read it as an idx file from end to end.

    Args:
        path: Where the file is now.
        checksum: SHA-256, `algorithm:digits`, or None.
        name: Its final name, which tells whether it must be compressed.
    """
    import pooch

    if checksum is None:
        try:
            read_idx(path, compressed=name.endswith(".gz"))
        except DataError as error:
            raise _Refusal(str(error).removeprefix(f"{path}: ")) from None
        return
    algorithm, _, expected = checksum.rpartition(":")
    algorithm = algorithm or "sha256"
    found = pooch.file_hash(str(path), alg=algorithm)
    if found != expected.lower():
        raise _Refusal(
            f"wrong checksum: {algorithm} of its {path.stat().st_size} bytes is {found[:12]}…, not {expected[:12]}…"
        )


def _join(base: str, *parts: str) -> str:
    return "/".join([base.rstrip("/"), *parts])


def _fetch(address: str, target: Path, patience: Patience) -> None:
    try:
        scheme = urlsplit(address).scheme.lower()
    except ValueError as error:
        raise _Refusal(f"is no address ({reason(error)})") from None
    if scheme in ("http", "https"):
        _fetch_http(address, target, patience)
    elif scheme in ("", "file"):
        _copy(_local_path(address), target, patience)
    else:
        raise _Refusal(f"{scheme}:// is not supported; use a folder, file://, http:// or https://")


def _local_path(address: str) -> Path:
    if not address.lower().startswith("file:"):
        try:
            return Path(address).expanduser()
        except (RuntimeError, ValueError) as error:
            raise _Refusal(f"is no folder ({reason(error)})") from None
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise _Refusal(f"a file:// address of this machine has three slashes, this one names the host {parts.netloc}")
    return Path(unquote(parts.path))


def _copy(source: Path, target: Path, patience: Patience) -> None:
    try:
        if not source.is_file():
            raise _Refusal("no such file")
        if source.stat().st_size > patience.maximum_bytes:
            raise _Refusal(f"larger than {patience.maximum_bytes} bytes")
        stream = source.open("rb")
    except OSError as error:
        raise _Refusal(reason(error)) from None
    with stream, target.open("wb") as copy:
        shutil.copyfileobj(stream, copy)


class _Sink:
    """What pooch writes into: it counts, keeps the size limit, and refuses to go on once all is given up."""

    def __init__(self, stream: BinaryIO, maximum_bytes: int) -> None:
        self._stream = stream
        self._maximum_bytes = maximum_bytes
        self.received = 0
        self.abandoned = False
        self.disc_error: OSError | None = None

    def write(self, chunk: bytes) -> int:
        self.received += len(chunk)
        if self.abandoned or self.received > self._maximum_bytes:
            raise _Refusal(f"larger than {self._maximum_bytes} bytes")
        try:
            return self._stream.write(chunk)
        except OSError as error:
            # Not the host's fault, and told apart here: the exceptions of requests are OSErrors as well.
            self.disc_error = error
            raise

    def flush(self) -> None:
        """Leave flushing to the file's end: pooch asks for it after every chunk."""


def _fetch_http(address: str, target: Path, patience: Patience) -> None:
    """Download with pooch in a thread of its own, and give up on it where it stalls.

    A read timeout starts again with every byte, and a slow name server knows no timeout at all. So this
    thread watches the other one, which is left behind (it ends with its connection, and can write nothing
    more) when time is up.
    """
    from pooch import HTTPDownloader

    downloader = HTTPDownloader(
        progressbar=True,
        chunk_size=CHUNK,
        timeout=(patience.connect, patience.read),
        headers={"Accept-Encoding": "identity"},
        hooks={"response": _keep_encoding},
    )
    failure: list[BaseException] = []
    with target.open("wb") as stream:
        sink = _Sink(stream, patience.maximum_bytes)

        def run() -> None:
            try:
                downloader(address, sink, None)
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=run, daemon=True, name=f"download {address}")
        started = progressed = time.monotonic()
        received = 0
        thread.start()
        while True:
            thread.join(min(0.2, patience.stall / 4, patience.total / 4))
            if not thread.is_alive():
                break
            now = time.monotonic()
            if sink.received > received:
                received, progressed = sink.received, now
            waited = now - progressed > patience.stall
            if waited or now - started > patience.total:
                sink.abandoned = True
                seconds = patience.stall if waited else patience.total
                raise _Refusal(
                    f"too slow: {received} bytes came, given up after {seconds:g} s{' more' * bool(received)}"
                )
    if sink.disc_error:
        raise sink.disc_error
    if failure:
        raise (failure[0] if isinstance(failure[0], _Refusal) else _Refusal(_explain(failure[0], patience))) from None


def _keep_encoding(response: object, **_: object) -> None:
    """Have the body as stored: some servers call a .gz file encoded, and requests would then unpack it."""
    response.raw.headers.pop("content-encoding", None)


def _explain(error: BaseException, patience: Patience) -> str:
    """Say in a few words why a request failed."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError):
        return f"HTTP {error.response.status_code} {error.response.reason}".strip()
    if isinstance(error, exceptions.TooManyRedirects):
        return "redirects without end"
    if isinstance(error, exceptions.ConnectTimeout):
        return f"no connection within {patience.connect:g} s"
    if isinstance(error, exceptions.Timeout) or "Read timed out" in str(error):
        return f"no answer within {patience.read:g} s"
    if isinstance(error, exceptions.SSLError):
        return "its certificate was refused"
    if isinstance(error, exceptions.ChunkedEncodingError | exceptions.ContentDecodingError):
        return "the connection broke before the end of the file"
    if isinstance(error, exceptions.ConnectionError):
        text = str(error)
        if "NameResolution" in text or "getaddrinfo" in text:
            return "the host's name is not known here"
        if "aborted" in text:
            return "the connection broke off without an answer"
        return "connection refused" if "refused" in text else "cannot be reached"
    return reason(error)
