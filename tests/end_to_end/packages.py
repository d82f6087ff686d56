"""Small real packages, made by hand: wheels, crates, npm tarballs, opam archives.

Their bytes follow from their arguments alone, so that digests are the same every time.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile

from tests.end_to_end.origin import Origin

_LONG_AGO = "2024-01-01T00:00:00.000Z"
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"


def wheel(name: str, version: str, says: str, needs: tuple[str, ...] = ()) -> bytes:
    """Return a wheel with one module, whose `WORD` is `says`.

    It brings a command of the same name, which prints an empty line.
    """
    folder = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"WORD = {says!r}\n",
        f"{folder}/entry_points.txt": (f"[console_scripts]\n{name} = builtins:print\n"),
        f"{folder}/METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {one}" for one in needs),
                "",
            ]
        ),
        f"{folder}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tests\n"
            "Root-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = [
        f"{path},sha256={_b64(hashlib.sha256(text.encode()).digest())},{len(text)}"
        for path, text in files.items()
    ]
    files[f"{folder}/RECORD"] = "\n".join([*record, f"{folder}/RECORD,,", ""])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return stream.getvalue()


def wheel_name(name: str, version: str) -> str:
    """Return the file name of such a wheel."""
    return f"{name}-{version}-py3-none-any.whl"


def tarball(files: dict[str, str]) -> bytes:
    """Return a .tar.gz of texts by path."""
    stream = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


def put_wheel(
    origin: Origin,
    name: str,
    says: str,
    version: str = "1.0",
    needs: tuple[str, ...] = (),
) -> bytes:
    """Let an origin have a project with one wheel; returns the wheel."""
    data, file = wheel(name, version, says, needs), wheel_name(name, version)
    url = origin.put(f"/files/{file}", data)
    page = {
        "meta": {"api-version": "1.0"},
        "name": name,
        "files": [
            {
                "filename": file,
                "url": url,
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            }
        ],
    }
    origin.put(f"/simple/{name}/", json.dumps(page).encode(), SIMPLE_JSON)
    return data


def crate(name: str, says: str, needs: str = "") -> bytes:
    """Return a crate 1.0.0 whose `word()` returns `says`; `needs` are its deps."""
    manifest = f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n'
    return tarball(
        {
            f"{name}-1.0.0/Cargo.toml": f"{manifest}[dependencies]\n{needs}\n",
            f"{name}-1.0.0/src/lib.rs": (
                f'pub fn word() -> &\'static str {{ "{says}" }}\n'
            ),
        }
    )


def put_crate(origin: Origin, name: str, says: str) -> bytes:
    """Let an origin have a crate; returns the file."""
    data = crate(name, says)
    line = {
        "name": name, "vers": "1.0.0", "deps": [], "features": {}, "yanked": False,
        "cksum": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    origin.put("/index/config.json", json.dumps({"dl": f"{origin.url}/dl"}).encode())
    path = f"/index/{name[:2]}/{name[2:4]}/{name}"
    origin.put(path, json.dumps(line).encode() + b"\n", "text/plain")
    origin.put(f"/dl/{name}/1.0.0/download", data)
    return data


def npm_package(name: str, says: str, **more: object) -> bytes:
    """Return the tarball of an npm package 1.0.0 that exports `says`."""
    about = {"name": name, "version": "1.0.0", "main": "index.js", **more}
    return tarball(
        {
            "package/package.json": json.dumps(about),
            "package/index.js": f"module.exports = {json.dumps(says)};\n",
        }
    )


def put_npm(
    origin: Origin, name: str, says: str, needs: dict[str, str] | None = None
) -> bytes:
    """Let an origin have an npm package; returns the tarball."""
    more = {"dependencies": needs} if needs else {}
    about = {"name": name, "version": "1.0.0", "main": "index.js", **more}
    data = npm_package(name, says, **more)
    integrity = base64.b64encode(hashlib.sha512(data).digest()).decode()
    dist = {
        "tarball": origin.put(f"/npm/{name}/-/{name}-1.0.0.tgz", data),
        "integrity": f"sha512-{integrity}",
        "shasum": hashlib.sha1(data).hexdigest(),
    }
    packument = {
        "name": name,
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {**about, "dist": dist}},
        # Yarn refuses what is younger than some days, or has no age.
        "time": {"created": _LONG_AGO, "modified": _LONG_AGO, "1.0.0": _LONG_AGO},
    }
    origin.put(f"/npm/{name}", json.dumps(packument).encode(), "application/json")
    return data


def opam_text(name: str, *lines: str) -> str:
    """Return an opam file of a package that leaves `word.txt` in its share."""
    return "\n".join(
        [
            'opam-version: "2.0"',
            'maintainer: "tests"',
            'install: [["mkdir" "-p" "%{share}%"]',
            f'  ["cp" "word.txt" "%{{share}}%/{name}.txt"]]',
            *lines,
            "",
        ]
    )


def put_opam(origin: Origin, name: str, says: str) -> bytes:
    """Let an origin have an opam repository with one package; returns its archive.

    The first checksum is an MD5, the only one that opam asks a mirror for.
    """
    data = tarball({f"{name}-1.0/word.txt": says + "\n"})
    text = opam_text(
        name,
        "url {",
        f'  src: "{origin.put(f"/archives/{name}-1.0.tar.gz", data)}"',
        "  checksum: [",
        f'    "md5={hashlib.md5(data).hexdigest()}"',
        f'    "sha512={hashlib.sha512(data).hexdigest()}"',
        "  ]",
        "}",
    )
    files = {"repo": 'opam-version: "2.0"\n', f"packages/{name}/{name}.1.0/opam": text}
    for path, content in files.items():
        origin.put(f"/opam/{path}", content.encode())
    origin.put("/opam/index.tar.gz", tarball(files))
    return data


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
