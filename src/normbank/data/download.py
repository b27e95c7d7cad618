"""Public data sets from their official addresses: licence first, then the bytes, checked, then the files.

Checksums: MVTec publishes none. Those below are public (anomalib carries the whole archive's; two public projects agree
on bottle, grid, metal_nut, screw and zipper; one names the other ten); a file that differs is refused.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import re
import shutil
import tarfile
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..config import unknown
from ..errors import DataError, UserError, problem
from ..machine import alone_by
from .transfer import DEFAULT_PATIENCE, Patience, Progress, check_room, fetch, verify

_CHUNK = 1 << 20
_AGAIN = "Remove the file to have it fetched again."
_CONTENTS = 1.1  # images in a tar.xz barely shrink: unpacked they take about what the archive takes


@dataclass(frozen=True)
class Remote:
    """One file to fetch. `makes` are the names that it leaves in the folder: what it unpacks to, or itself."""

    url: str
    sha256: str | None
    megabytes: int
    makes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    @property
    def is_archive(self) -> bool:
        """Whether it is to be unpacked."""
        return self.makes != (self.name,)


@dataclass(frozen=True)
class Source:
    """A data set: its page, its licence in a few words, the files that make it whole, and those of single categories.

    `by_hand` says what to do where its publisher offers no address to fetch from.
    """

    title: str
    page: str
    licence: str
    whole: tuple[Remote, ...] = ()
    categories: Mapping[str, Remote] = field(default_factory=dict)
    by_hand: str | None = None


_MVTEC_HOST = "https://www.mydrive.ch/shares"
# category: megabytes, share, file, SHA-256
_MVTEC = {
    "bottle": (
        149,
        "150452/132a93367fb17cdf968dfb5c4013f6e7",
        "420937370-1629958698",
        "726512129cb3b1f47d4f6cd7c7fc9170db7fc209132249c788fec06029cb5dc3",
    ),
    "cable": (
        481,
        "150453/10f960e07fec2838b2cd512586633a32",
        "420937413-1629958794",
        "1e3d59b80a6a8da5adf32fb0cf311c7b964cde146d6920aef9ca66380999a9cd",
    ),
    "capsule": (
        385,
        "150454/e0ce6dd74eb150f46c0d98131b3703f2",
        "420937454-1629958872",
        "f6a41cb11f1589d552888fe9c43a1adcbcae15b70073e19093322f836d00a2b6",
    ),
    "carpet": (
        705,
        "150455/eac7fbce84d93a5094e13f391170eca4",
        "420937484-1629959013",
        "d9dd5064515a20bd75cf24d223c570579141abd72388beef892780b74dbaa85d",
    ),
    "grid": (
        153,
        "150456/bb0b2e3dc804ccb8b4485e01f8e4493b",
        "420937487-1629959044",
        "d94a9a651cbfaee22c94d06cf8fa8204a590c872362de0489eb34f1645328de8",
    ),
    "hazelnut": (
        588,
        "150457/51d49f65e84bdc100ff8035d7dd783ea",
        "420937545-1629959162",
        "a7f4e7d65a60a235def7236a46fcb854d62e6c6917c16b1ec9cb4ff089d3b0da",
    ),
    "leather": (
        500,
        "150458/923030ce14e10a7d147e95d0f8885f6b",
        "420937607-1629959262",
        "704ffa48b1dc2fc44824aa50442d9febc399dd92a5d6fd8156f8aa0373d15f24",
    ),
    "metal_nut": (
        158,
        "150459/c68856a21dca589b0f8ff6d4ee0f18f4",
        "420937637-1629959294",
        "86e3c8e163ceb19146ad3ddc408e85cc34ae02e0da430e07a73bac6bbb48532a",
    ),
    "pill": (
        262,
        "150460/d4f1c04da67034ccc8d8b5fa3e73f244",
        "420938129-1629960351",
        "ac6ce9ec4ec2a5d67c906d82147bd7431980cf00b78f25d63201a5f17e3a2038",
    ),
    "screw": (
        186,
        "150461/242f454cc6385e5693c4fd4b94567d1e",
        "420938130-1629960389",
        "0a27a365a21e472d19b9fb48cb8e4002b49fabe083bff7f4c16fa57d78154f10",
    ),
    "tile": (
        335,
        "150462/5479f0fdc97bc6fa16eab0cb0cf0109f",
        "420938133-1629960456",
        "392228153b96d0db9f179d3f7c2d63e131e907154883b57309fcbf798643173c",
    ),
    "toothbrush": (
        104,
        "150463/895a1a5fb84b958f07417784b060434b",
        "420938134-1629960477",
        "fe72a34b4b0d074f84e844be7ef8c4f64f7f02f20e25f19c9e3b4a231c8bea77",
    ),
    "transistor": (
        384,
        "150464/99b8ea0332438d64fcc2475ee73f9c29",
        "420938166-1629960554",
        "146b2166c35a1d0cf37ded091366ac01a50338b4ac704632f1239890eaca4449",
    ),
    "wood": (
        474,
        "150465/d5b4115b720cdb54d217e75636e6e374",
        "420938383-1629960649",
        "3757297ac2a266072eb4f25a97f805f5b37fd583492b20bd709f310736c1ea47",
    ),
    "zipper": (
        152,
        "150466/bd155b557520edaf692d9bfdb915c24a",
        "420938385-1629960680",
        "7ab46e0e195da145db30052baea3d3a5d14c5f0e710137c968e0423f02cb942d",
    ),
}
_MNIST = {  # file: megabytes, SHA-256
    "train-images-idx3-ubyte.gz": (10, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    "train-labels-idx1-ubyte.gz": (1, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    "t10k-images-idx3-ubyte.gz": (2, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    "t10k-labels-idx1-ubyte.gz": (1, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
}

DOWNLOADS: dict[str, Source] = {
    "mvtec_ad": Source(
        title="MVTec AD (Bergmann et al., 2019): 15 categories, 5,354 images, masks",
        page="https://www.mvtec.com/company/research/datasets/mvtec-ad/downloads",
        licence="CC BY-NC-SA 4.0: name the source, no commercial use, share what you derive under the same licence",
        whole=(
            Remote(
                f"{_MVTEC_HOST}/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
                "mvtec_anomaly_detection.tar.xz",
                "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
                5265,
                tuple(_MVTEC),
            ),
        ),
        categories={
            name: Remote(f"{_MVTEC_HOST}/{share}/download/{file}/{name}.tar.xz", sha256, megabytes, (name,))
            for name, (megabytes, share, file, sha256) in _MVTEC.items()
        },
    ),
    "mnist": Source(
        title="MNIST (LeCun, Cortes, Burges): 70,000 handwritten digits, 28 x 28",
        page="https://github.com/cvdfoundation/mnist",
        licence="CC BY-SA 3.0: name the source, share what you derive under the same licence",
        whole=tuple(
            Remote(f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}", sha256, megabytes, (name,))
            for name, (megabytes, sha256) in _MNIST.items()
        ),
    ),
    "oct2017": Source(
        title="OCT2017 (Kermany et al., 2018): retinal scans",
        page="https://data.mendeley.com/datasets/rscbjbr9sj/3",
        licence="CC BY 4.0: name the source",
        by_hand="Fetch the archive of the OCT images from its page with a browser and unpack it.",
    ),
}


def download(
    name: str,
    out: Path,
    category: str | None = None,
    base_url: str | None = None,
    *,
    accept: Callable[[str], bool],
    progress: Progress | None = None,
    keep_archives: bool = False,
    patience: Patience = DEFAULT_PATIENCE,
) -> Path:
    """Fetch a data set of DOWNLOADS, or one category of it, into the folder `out`; return the folder to read.

    `accept` is shown what will be fetched and its licence, and nothing is fetched before it says True. What is there
    already is not fetched again; a download that was cut or stopped (Ctrl-C too) goes on from there; an archive is
    checked before it is unpacked, and the data gets its name only when it is whole. The archive is removed then, unless
    `keep_archives` or it lay in `out` beforehand. `base_url` names another server with the same files (the checksums
    stay). `progress` is called with (bytes done, bytes in all or None) for one file after the other.

    Raises UserError where the licence is not accepted, DataError for an unknown name or category, no network, a file
    that is not found, damaged, not as expected or being fetched by another process, a full disk, an archive that would
    write outside its folder.
    """
    source = _source(name)
    out = Path(out)
    missing = [remote for remote in _remotes(name, source, category) if not _is_there(remote, out)]
    if any(not (out / remote.name).is_file() for remote in missing):
        _ask(source, missing, base_url, accept)
    for remote in missing:
        if not remote.is_archive and (out / remote.name).is_file():
            verify(out / remote.name, remote.sha256, do=_AGAIN)  # nothing is written: the folder may be another's
            continue
        with _alone(remote, out):
            if _is_there(remote, out):  # another did it, while the licence was read
                continue
            was_there = (out / remote.name).is_file()
            archive = _archive(remote, out, base_url, progress, patience)
            if remote.is_archive:
                unpack(archive, out, remote.makes)
                if not (keep_archives or was_there):
                    archive.unlink()
    return out / category if category else out


def unpack(archive: Path, out: Path, makes: tuple[str, ...]) -> None:
    """Unpack the names `makes` of a .tar.xz or .tar.gz into `out`, all of it or nothing; names that are there stay.

    Only plain files and folders inside the archive's own tree are written, with this process' own rights. DataError
    for a damaged archive, one that holds links or devices or leaves its folder, or one that lacks a name of `makes`.
    """
    staging = out / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
        _extract(archive, staging)
        lacking = [name for name in makes if not (staging / name).exists()]
        if lacking:
            came = f"{', '.join(sorted(entry.name for entry in staging.iterdir())[:5]) or 'nothing'} in it"
            raise _bad(archive, f"an archive of {', '.join(makes)}", came)
        for name in makes:
            if _is_missing(out / name):
                with contextlib.suppress(FileNotFoundError):
                    (out / name).rmdir()
                (staging / name).rename(out / name)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise _bad(archive, "a whole archive", f"a damaged one ({error})") from error
    except OSError as error:
        do = "Make room or choose another folder; the archive is kept."
        raise DataError(problem(str(out), expected=f"to unpack {archive.name}", came=str(error), do=do)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _source(name: str) -> Source:
    if name not in DOWNLOADS:
        raise DataError(unknown("data set", name, DOWNLOADS))
    source = DOWNLOADS[name]
    if source.by_hand:
        raise DataError(f"{name}: its publisher offers no address to fetch from. {source.by_hand} {source.page}")
    return source


def _remotes(name: str, source: Source, category: str | None) -> tuple[Remote, ...]:
    if category is None:
        return source.whole
    if not source.categories:
        raise DataError(f"{name} has no categories: leave out {category!r}.")
    if category not in source.categories:
        raise DataError(unknown(f"category of {name}", category, source.categories))
    return (source.categories[category],)


def _is_there(remote: Remote, out: Path) -> bool:
    return remote.is_archive and not any(_is_missing(out / name) for name in remote.makes)


def _is_missing(path: Path) -> bool:
    """Whether nothing is there, or a folder with nothing in it; a link is someone's own doing."""
    return not path.exists() or (path.is_dir() and not path.is_symlink() and not any(path.iterdir()))


def _ask(source: Source, remotes: list[Remote], base_url: str | None, accept: Callable[[str], bool]) -> None:
    files = "\n".join(f"  {_address(remote, base_url)} (about {remote.megabytes:,} MB)" for remote in remotes)
    text = f"{source.title}\nLicence: {source.licence}\nTerms: {source.page}\nWill be fetched:\n{files}"
    if not accept(text):
        raise UserError(f"{source.title}: the licence was not accepted, so nothing was fetched.")


def _address(remote: Remote, base_url: str | None) -> str:
    if base_url is None:
        return remote.url
    if not _is_address(base_url):
        do = "Leave it out for the official address."
        raise DataError(problem("base_url", expected="an http:// or https:// address", came=repr(base_url), do=do))
    return f"{base_url.rstrip('/')}/{remote.name}"


def _is_address(text: str) -> bool:
    try:
        known = urllib.parse.urlsplit(text)
        _ = known.port  # ValueError for what is no number
    except ValueError:
        return False
    return known.scheme in ("http", "https") and bool(known.hostname) and re.fullmatch(r"[!-~]+", text) is not None


@contextlib.contextmanager
def _alone(remote: Remote, out: Path) -> Iterator[None]:
    """Make the folder `out` and let no two processes fetch or unpack the same file there."""
    stack, lock = contextlib.ExitStack(), out / f".{remote.name}.lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        free = stack.enter_context(alone_by(lock))
    except OSError as error:
        do = "Choose another folder."
        if lock.exists():
            do = f"Choose another folder; or, where no one is fetching into it, remove {str(lock)!r}, which one left."
        raise DataError(problem(str(out), expected="a folder to write to", came=str(error), do=do)) from error
    with stack:
        if not free:
            came, do = "another process at it", "Wait until that has ended, or choose another folder."
            raise DataError(problem(str(out / remote.name), expected="no one else to fetch it", came=came, do=do))
        yield


def _archive(remote: Remote, out: Path, base_url: str | None, progress: Progress | None, patience: Patience) -> Path:
    """The file of `remote` in `out`, checked: as it lies there, or fetched."""
    target = out / remote.name
    contents = _CONTENTS if remote.is_archive else 0.0
    if target.is_file():
        verify(target, remote.sha256, do=_AGAIN)
        check_room(out, target.stat().st_size * contents)
        return target
    url = _address(remote, base_url)
    fetch(url, target, sha256=remote.sha256, room_for_contents=contents, progress=progress, patience=patience)
    return target


def _extract(archive: Path, folder: Path) -> None:
    """Write the archive's plain files and folders below `folder`, reading it once from front to back."""
    opened = gzip.open if archive.name.endswith("gz") else lzma.open
    with opened(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                _write_member(tar, member, folder / _inside(member.name, archive), archive)
        while stream.read(_CHUNK):  # tarfile takes a cut stream for a short one: the decoder knows
            pass


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, archive: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise _bad(archive, "plain files and folders only", f"{member.name!r}, a link or device")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)


def _inside(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise _bad(archive, "names inside the archive", f"{name!r}, which leads out of it")
    return path


def _bad(archive: Path, expected: str, came: str) -> DataError:
    do = "Nothing was unpacked. Remove the file to have it fetched again."
    return DataError(problem(str(archive), expected=expected, came=came, do=do))
