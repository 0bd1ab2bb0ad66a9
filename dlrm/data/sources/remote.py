"""Files named by a URL: which there are, and what tells one state of a file apart."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from dlrm.config.errors import DataError, InstallationError

PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "memory": "fsspec",
}
"""What reads each kind of URL; all of them come with the extra ``remote``."""
_VERSIONS = (
    "ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified",
    "Last-Modified", "updated", "mtime", "created",
)  # fmt: skip
"""What servers call that which changes when a file does, the surest first."""
_CONNECT_SECONDS, _SILENT_SECONDS = 30, 60


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its server describes it."""

    url: str
    size: int | None
    """None where the server does not say."""
    version: str | None
    """Its ETag or time of change; None where the server gives neither."""

    @property
    def is_http(self) -> bool:
        """Say whether the file comes over HTTP, where ranges are the server's grace."""
        return self.url.lower().startswith(("http://", "https://"))


def is_remote(text: str) -> bool:
    """Say whether a source is a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def find_remote(source: str, *, key: str) -> list[RemoteFile]:
    """List the files that a URL names: one file, a folder's visible files, or a glob's.

    Raises:
        DataError: There is no such file, or the server cannot be asked.
        InstallationError: The package that reads such URLs is missing.
    """
    scheme, _, path = source.partition("://")
    if scheme.lower() not in PACKAGES:
        raise DataError(
            f"{key} must be a local path or begin with s3://, gs://, http:// or "
            f"https://, but it is {source}. Copy the data first."
        )
    is_glob = bool(
        re.search(r"[*\[]" if scheme.startswith("http") else r"[*?\[]", path)
    )
    if scheme.lower().startswith("http"):
        if is_glob or path.endswith("/"):
            raise DataError(
                f"{key} must name single files where it is an http(s) URL, as web "
                f"servers have no listing to choose from, but it is {source}. Name "
                "each file, separated by ';'."
            )
        return [describe(source, key=key)]
    filesystem, inner = open_filesystem(source)
    try:
        filesystem.invalidate_cache()
        if is_glob:
            names = [p for p in filesystem.glob(inner) if not filesystem.isdir(p)]
        elif filesystem.isdir(inner):
            found = filesystem.ls(inner, detail=True)
            names = [entry["name"] for entry in found if entry["type"] == "file"]
            names = [n for n in names if n.rpartition("/")[2][:1] not in (".", "_", "")]
        else:
            return [describe(source, key=key)]
    except Exception as error:
        raise unreadable(source, error, key=key) from error
    if not names:
        verb = "match at least one file" if is_glob else "hold data files"
        raise DataError(f"{key} must {verb}, but {source} has none.")
    return [describe(filesystem.unstrip_protocol(name), key=key) for name in names]


def describe(url: str, *, key: str = "data.source") -> RemoteFile:
    """Ask the server about one file.

    Raises:
        DataError: It is not there, or the server cannot be asked.
        InstallationError: The package that reads such URLs is missing.
    """
    filesystem, path = open_filesystem(url)
    try:
        filesystem.invalidate_cache()
        found = filesystem.info(path)
    except Exception as error:
        raise unreadable(url, error, key=key) from error
    if found.get("type") == "directory":
        raise DataError(f"{key} must name a file, but {url} is a folder.")
    version = next((f"{n}={found[n]}" for n in _VERSIONS if found.get(n)), None)
    return RemoteFile(url, found.get("size"), version)


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it.

    Raises:
        InstallationError: A package is missing.
    """
    scheme = url.partition("://")[0].lower()
    try:
        import fsspec

        options = _web_options() if scheme.startswith("http") else {}
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise InstallationError(
            f"{url} needs the package {PACKAGES[scheme]}, which cannot be imported "
            f"({error}). Install it: pip install 'dlrm[remote]', or pip install "
            f"fsspec {PACKAGES[scheme]}"
        ) from error
    return filesystem, path


def unreadable(url: str, error: Exception, *, key: str = "data.source") -> Exception:
    """Word what a server, or the way to it, answered instead of a file."""
    if isinstance(error, (DataError, InstallationError)):
        return error
    if isinstance(error, FileNotFoundError):
        # fsspec takes a server that cannot be reached for a file that is not there.
        reason = f" ({one_line(error.__cause__)})" if error.__cause__ else ""
        return DataError(
            f"{key} must name files that are there, but {url} is not, or its server "
            f"cannot be reached{reason}. Check the address."
        )
    return DataError(
        f"{url} must be readable, but its server answers: {one_line(error)}. Check the "
        "address and your credentials."
    )


def one_line(error: BaseException | None) -> str:
    """Return an error's kind and first line."""
    text = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def cache_name(file: RemoteFile) -> str:
    """Return what the cache's name for this state of a file is a hash of."""
    # What cannot be told apart from a later state is not to be taken for it.
    version = file.version or f"unknown {uuid.uuid4().hex}"
    return f"{file.url}\n{file.size}\n{version}"


def _web_options() -> dict[str, Any]:
    import aiohttp

    # The default gives up on any file that takes more than five minutes.
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS
    )
    return {"client_kwargs": {"timeout": timeout}}
