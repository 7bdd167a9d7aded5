"""Files that a task downloads, once: where they are kept, and what is said when they cannot be had.

A file is downloaded under a temporary name beside its place and moved there when its checksum is right, by `pooch`; so
the cache never holds half a file. A file put there by hand is taken like a downloaded one.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etude.errors import DataError

CACHE = "ETUDE_CACHE"  # the environment variable that names another folder than the user's cache
TIMEOUT_S = 30.0  # without a byte; not for the whole file


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file at ``url`` whose content has this ``md5``; it is kept under the last part of the address."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def cache_folder() -> Path:
    """Return the folder that downloads are kept in: ``$ETUDE_CACHE``, or the user's cache folder for etude."""
    import platformdirs

    named = os.environ.get(CACHE)
    return Path(named).expanduser() if named else platformdirs.user_cache_path("etude", appauthor=False)


def fetch(remote: Remote, folder: str) -> Path:
    """Return the path of the file, in the cache's ``folder``; download it where it is missing or not what it should be.

    Raises `DataError` when it cannot be had; then no file in the cache is new or other than it was.
    """
    import pooch

    place = cache_folder() / folder
    try:
        with _quiet(pooch.get_logger()):
            kept: str = pooch.retrieve(
                remote.url,
                known_hash=f"md5:{remote.md5}",
                fname=remote.name,
                path=place,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT_S),
            )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        raise DataError(
            f"{place / remote.name}: it could not be downloaded from {remote.url}: {_reason(error, remote)}; put the file "
            f"(md5 {remote.md5}) there by hand, name another folder with {CACHE}, or give the task root=DIR"
        ) from error
    return Path(kept)


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from telling on standard error what it downloads."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _reason(error: BaseException, remote: Remote) -> str:
    """Say what went wrong in a few words; the libraries' own messages run over lines."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}".rstrip()
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    # The innermost error of the system says it best: "Connection refused", "Name or service not known".
    for link in reversed(chain):
        if isinstance(link, TimeoutError):
            return f"no answer within {TIMEOUT_S:g} s"
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
    if isinstance(error, OSError):
        return f"the connection broke off ({type(error).__name__})"
    return f"what came is not the file with md5 {remote.md5}"
