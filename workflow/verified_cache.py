"""Snakemake's between-workflow cache, made fit to be trusted: `snakemake --cores 8 --cache`.

Snakemake's own cache hands out whatever lies under an entry's name, damaged or not; it turns results into links that
dangle once the cache is deleted and through which an edited result edits the cache; and its files can be written by
everyone. Here results are copied, in and out; an entry's SHA-256 is written down when it is made and compared with the
very bytes that are handed out; and what does not match is made again.

An entry is a job's files, named by Snakemake's hash of everything that made them, and last `{hash}.sha256`, in the
format of sha256sum: `cd CACHE && sha256sum --quiet -c *.sha256` checks a whole cache by hand. Without that last file
there is no entry. It guards against damage, not against malice: who may write to the folder may forge both.
"""

import hashlib
import os
from pathlib import Path

import snakemake.workflow
from snakemake.caching import LOCATION_ENVVAR
from snakemake.caching.local import OutputFileCache
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from aggregated_posterior.storage import atomic_path, write_text

BLOCK = 1 << 20


class VerifiedCache(OutputFileCache):
    """Entries that are copies, each with a checksum that is compared whenever it is used. Files only, no folders."""

    async def store(self, job) -> None:
        """Copy a finished job's files into the cache; where that fails, they stay uncached and the run goes on."""
        files = await self.get_outputfiles_and_cachefiles(job)
        if not all(output.is_file() for output, _ in files):
            return  # Snakemake finds the missing file itself and says which.
        try:
            checksums = ""
            for output, entry in files:
                with atomic_path(entry) as part:
                    checksums += f"{_copy(output, part)}  {entry.name}\n"
                _let_others_read(entry)
            checksum_file = await self._checksum_file(job)
            write_text(checksum_file, checksums)
            _let_others_read(checksum_file)
        except OSError as error:
            logger.warning(f"Not put into the cache: {job.output[0]} ({error}).")
            return
        logger.info(f"Put into the cache: {job.output[0]}")

    async def fetch(self, job) -> None:
        """Copy an entry's files to where the job wants them, or call it a miss so that the job runs."""
        if not await self.exists(job):
            self.raise_cache_miss_exception(job)
        checksums = await self._checksums(job)
        for output, entry in await self.get_outputfiles_and_cachefiles(job):
            if not os.access(entry, os.R_OK):
                logger.warning(f"Cache entry {entry} cannot be read; {output} is made again.")
                self.raise_cache_miss_exception(job)
            with atomic_path(output) as part:
                if _copy(entry, part) != checksums[entry.name]:
                    logger.warning(f"Cache entry {entry} is damaged and not used; {output} is made again.")
                    self.raise_cache_miss_exception(job)
        logger.info(f"Taken from the cache: {job.output[0]}")

    async def exists(self, job) -> bool:
        """Whether the cache has all of a job's files; a dry run asks only this, and checks no bytes."""
        checksums = await self._checksums(job)
        files = await self.get_outputfiles_and_cachefiles(job)
        return all(entry.name in checksums and entry.is_file() for _, entry in files)

    async def _checksum_file(self, job) -> Path:
        return self.path / f"{await self.provenance_hash_map.get_provenance_hash(job)}.sha256"

    async def _checksums(self, job) -> dict[str, str]:
        try:
            lines = (await self._checksum_file(job)).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def use_verified_cache(workflow) -> None:
    """Put `VerifiedCache` in the place of Snakemake's and settle its location; to be called before the first rule.

    The location is `$SNAKEMAKE_OUTPUT_CACHE`, or a folder of the user's; it is made absolute and created.
    Does nothing but hush Snakemake's hints where the cache was not asked for.
    """
    if not workflow.enable_cache:
        logger.addFilter(_is_no_hint)
        return
    snakemake.workflow.LocalOutputFileCache = VerifiedCache
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    location = os.environ.get(LOCATION_ENVVAR) or str(caches / "aggregated-posterior")
    if "://" not in location:  # With a storage provider it is an address, and Snakemake's own cache is used.
        folder = Path(location).expanduser().absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkflowError(f"{folder}: cannot be the cache ({error.strerror}); set {LOCATION_ENVVAR}") from None
        location = str(folder)
    os.environ[LOCATION_ENVVAR] = location
    # Snakemake hands an empty list of rules to no job of a cluster, and so those would not cache. A list of names that
    # no rule has means the same, all rules that may be cached, and is handed on.
    if not workflow.workflow_settings.cache:
        workflow.workflow_settings.cache = ["all_that_may_be_cached"]


def _is_no_hint(record) -> bool:
    """Without --cache, Snakemake says of each rule in turn, at every start, that it could be cached."""
    return "is eligible for caching between workflows" not in str(record.msg)


def _copy(source: Path, target: Path) -> str:
    """Copy a file's content and return the SHA-256 of the bytes that were copied."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(BLOCK):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def _let_others_read(path: Path) -> None:
    """A cache is there to be shared, whatever the umask of who fills it; only its owner may change an entry."""
    path.chmod(0o644)
