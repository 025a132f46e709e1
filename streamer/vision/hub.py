"""Checkpoints from Hugging Face, with the user's token; every way in which that fails is told apart in one line.

huggingface_hub lists, authenticates, resumes within a call and draws the progress bar. Its own `hf_hub_download` throws
away what a broken download had (since 1.x each process has a temporary file of its own), which for 3.4 GB on a slow
line means never: so `http_get`, which it is made of, writes to a file here that the next call goes on with.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from streamer.errors import ModelMissing
from streamer.folders import unusable
from streamer.vision.checkpoints import (
    CHECKPOINTS,
    META_WEIGHTS,
    CheckpointStore,
    Origin,
    check_space,
    described,
    drop_manifest,
    is_wanted,
    problems,
    read_manifest,
    repository_of,
    write_manifest,
)
from streamer.vision.fetching import sha256_of
from streamer.vision.models import Progress, locked

LIST_TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file of the repository."""

    name: str
    bytes: int
    sha256: str | None
    """None: it is small and lies in git itself."""
    blob: str
    """SHA-1 that git gives it."""

    @property
    def digest(self) -> str:
        return self.sha256 or self.blob

    def is_in(self, path: Path) -> bool:
        """Whether `path` holds exactly this file."""
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        return sha256_of(path) == self.sha256 if self.sha256 is not None else _git_blob(path) == self.blob


def pull(
    store: CheckpointStore, checkpoint: str, backend: str = "transformers", say: Progress = print, *, bar: bool = False
) -> Path:
    """Folder of a whole checkpoint: what is missing or damaged is fetched, a broken download goes on where it ended.

    `say` is told what is being done; `bar`: draw progress bars on stderr.

    Raises:
        ModelMissing: it cannot be had; the message says why and what to do.
    """
    hub = _library()
    folder, repository = store.folder(checkpoint), repository_of(checkpoint)
    if repository is None or folder.parent != store.root:
        raise ModelMissing(f"{checkpoint} is a folder: there is nothing to pull")
    _be_quiet(hub, bar)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(store.root / f".{folder.name}.lock"):
            say(f"models: looking at {repository} on {hub.constants.ENDPOINT}")
            revision, files = _explained(checkpoint, lambda: _listed(hub, repository, backend))
            missing = [file for file in files if not file.is_in(folder / file.name)]
            before = read_manifest(folder)
            if missing:
                drop_manifest(folder)
                have = sum(_part(folder, file).stat().st_size for file in missing if _part(folder, file).is_file())
                need = sum(file.bytes for file in missing)
                check_space(folder, need - have)
                licence = CHECKPOINTS[checkpoint].licence if checkpoint in CHECKPOINTS else "see its page"
                say(f"models: fetching {need / 1e6:.1f} MB of {repository} ({licence})")
            for file in missing:
                _fetch(hub, checkpoint, repository, revision, file, folder)
            for problem in problems(folder, backend):
                raise ModelMissing(f"{repository} is no checkpoint for backend {backend}: {problem}")
            names = {file.name for file in files}
            if before is not None and before.revision == revision:  # pulled for the other backend
                names |= {name for name in before.files if (folder / name).is_file()}
            write_manifest(folder, Origin(repository, revision, described(folder, sorted(names))))
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise ModelMissing(
                f"the disk of {folder} is full: make room, then run `streamer models pull {checkpoint}` again; it goes "
                "on where it ended"
            ) from exc
        raise ModelMissing(f"cannot write to {folder}: {unusable(folder, exc)}") from exc
    say(f"models: {checkpoint} is ready in {folder}")
    return folder


def _library() -> Any:
    try:
        import huggingface_hub.constants
        import huggingface_hub.utils
    except ImportError as exc:
        raise ModelMissing(
            "checkpoints come from Hugging Face, whose client is not installed: "
            "pip install -e '.[sam3]', or give a folder with --from"
        ) from exc
    return huggingface_hub


def _be_quiet(hub: Any, bar: bool) -> None:
    hub.utils.logging.set_verbosity_error()  # its retries are told in our own words
    if not bar:
        hub.utils.disable_progress_bars()


def _listed(hub: Any, repository: str, backend: str) -> tuple[str, list[_Remote]]:
    """Newest commit, and the files that the backend reads."""
    info = hub.HfApi().model_info(repository, files_metadata=True, timeout=LIST_TIMEOUT_SECONDS)
    files = [
        _Remote(
            found.rfilename,
            int(found.size or 0),
            None if found.lfs is None else found.lfs.sha256,
            found.blob_id or "",
        )
        for found in info.siblings or []
        if is_wanted(found.rfilename, backend)
    ]
    weights = META_WEIGHTS if backend == "meta" else ".safetensors"
    if not any(file.name.endswith(weights) for file in files):
        raise ModelMissing(f"{repository} on {hub.constants.ENDPOINT} has no {weights} for backend {backend}")
    return str(info.sha), sorted(files, key=lambda file: file.bytes)


def _fetch(hub: Any, checkpoint: str, repository: str, revision: str, file: _Remote, folder: Path) -> None:
    from huggingface_hub.file_download import http_get

    part = _part(folder, file)
    with part.open("ab") as writer:
        if writer.tell() > file.bytes:
            writer.truncate(0)
            writer.seek(0)
        start = writer.tell()
        _explained(
            checkpoint,
            lambda: http_get(
                hub.hf_hub_url(repository, file.name, revision=revision),
                writer,
                resume_size=start,
                headers=hub.utils.build_hf_headers(),
                expected_size=file.bytes,
                displayed_filename=file.name,
            ),
            writer,
            file,
        )
    if not file.is_in(part):
        part.unlink()
        raise ModelMissing(
            f"{file.name} of {repository} fails its hash (expected {file.digest[:12]}…) and was removed: run "
            f"`streamer models pull {checkpoint}` again; if it fails again, something between here and "
            f"{hub.constants.ENDPOINT} changes files"
        )
    os.replace(part, folder / file.name)


def _part(folder: Path, file: _Remote) -> Path:
    """What has come of a file; its name holds the digest, so that a newer file never goes on with an older one."""
    return folder / f".{file.name}.{file.digest[:12]}.part"


def _explained(
    checkpoint: str, ask: Callable[[], Any], writer: BinaryIO | None = None, file: _Remote | None = None
) -> Any:
    """The answer of `ask`, or `ModelMissing` with the reason in words; `writer`: of what has come of `file`."""
    import httpx
    from huggingface_hub import constants, errors, get_token

    repository = repository_of(checkpoint)
    page = f"{constants.ENDPOINT}/{repository}"
    again = f"run `streamer models pull {checkpoint}` again"
    token = "make a token at https://huggingface.co/settings/tokens and set HF_TOKEN, or run `hf auth login`"
    try:
        return ask()
    except errors.OfflineModeIsEnabled as exc:
        reason = f"HF_HUB_OFFLINE is set, so {repository} cannot be fetched: unset it, or give a folder with --from"
        raise ModelMissing(reason) from exc
    except errors.HfHubHTTPError as exc:
        status = exc.response.status_code
        if isinstance(exc, errors.GatedRepoError) and (status == 401 or get_token() is None):
            reason = f"{repository} is gated and no token was given: accept the licence at {page}, then {token}"
        elif isinstance(exc, errors.GatedRepoError) or status == 403:
            reason = (
                f"the token's account has no access to {repository}: open {page} with that account, accept the "
                f"licence, wait until access is granted, then {again} (a fine-grained token must also be allowed to "
                "read gated repositories)"
            )
        elif status == 401 and get_token() is not None:
            reason = f"the token was refused (401) for {repository}: it is wrong, expired, or cannot see it; {token}"
        elif isinstance(exc, errors.RepositoryNotFoundError):
            reason = f"there is no {repository} on {constants.ENDPOINT}, or it is private: check the name"
        elif isinstance(exc, errors.EntryNotFoundError):
            reason = f"{repository} has no {file.name if file else 'such file'} any more: {again}"
        else:
            reason = f"{constants.ENDPOINT} answered {status} for {repository}: wait a little, then {again}"
        raise ModelMissing(reason) from exc
    except (httpx.TransportError, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise  # of this machine, not of the line
        if writer is not None and file is not None and writer.tell():
            far = f"broke off at {writer.tell() / 1e6:.1f} of {file.bytes / 1e6:.1f} MB"
            reason = f"the download of {file.name} {far} ({type(exc).__name__}): {again}; it goes on where it ended"
            raise ModelMissing(reason) from exc
        reason = (
            f"cannot reach {constants.ENDPOINT} ({type(exc).__name__}): check the network and the proxy, then {again}, "
            "or fetch the files elsewhere and give the folder with --from"
        )
        raise ModelMissing(reason) from exc


def _git_blob(path: Path) -> str:
    """SHA-1 of a file as git names it."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
