"""The names of an archive's entries: decoded, and checked for the ways out of the archive."""

import posixpath
import re
import unicodedata
import zlib

from ingest.refusal import refusal

_UTF8 = 0x0800
_NAME_BYTES = 1024
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")  # "K:/story" is a drive, "K:story" is a title


def decode_names(raw: bytes, flags: int, unicode_path: bytes) -> tuple[str, str]:
    """Decode a name, and the name that a reader sees who does not know the Unicode path field."""
    older = _decode(raw, flags)
    if unicode_path[:5] == b"\1" + zlib.crc32(raw).to_bytes(4, "little"):
        return _decode(unicode_path[5:], _UTF8), older
    return older, older


def _decode(raw: bytes, flags: int) -> str:
    """Decode a name; one without the UTF-8 flag is most often from a Japanese Windows."""
    if not raw or len(raw) > _NAME_BYTES:
        raise refusal("bad_name", f"a name of {len(raw)} bytes")
    for encoding in ("utf-8",) if flags & _UTF8 else ("utf-8", "cp932", "cp437"):
        try:
            return raw.decode(encoding).replace("\\", "/")
        except UnicodeDecodeError:
            continue
    raise refusal("bad_name", "it says UTF-8 and is not", raw.decode("utf-8", "backslashreplace"))


def check_name(name: str) -> None:
    """Refuse a name that leads out of the archive, or that ends early for some readers."""
    if "\0" in name:
        raise refusal("nul_in_name", "a NUL character", name)
    if _ABSOLUTE.match(name):
        raise refusal("absolute_path", "outside the archive", name, malicious=True)
    if ".." in name.split("/"):
        raise refusal("path_traversal", "outside the archive", name, malicious=True)


def is_folder_of(folder: str, name: str) -> bool:
    """Tell whether an entry lies below another one, however their names are written."""
    above, below = (_folded(posixpath.normpath(one)) for one in (folder, name))
    return below.startswith(f"{above}/")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def leads_out(link: str, target: bytes) -> bool:
    """Tell whether a symbolic link in the archive points out of it."""
    path = target.decode("utf-8", "replace").replace("\\", "/")
    whole = posixpath.normpath(posixpath.join(posixpath.dirname(link), path))
    return bool(_ABSOLUTE.match(path)) or whole.split("/")[0] == ".."
