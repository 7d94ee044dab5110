"""Checks announced models: python verify_model.py file://$PWD/.headrace/artefacts < updates (pip install obstore)."""

import hashlib
import json
import sys

import obstore
from obstore.store import from_url

store = from_url(sys.argv[1])  # file:///..., s3://bucket/prefix, ...: the uri of an update is a path in it


def fetch(path: str, sha256: str, size: int | None = None) -> bytes:
    """The object, if it has the size and the SHA-256; the end of the program if not."""
    try:
        value = bytes(obstore.get(store, path).bytes())
    except FileNotFoundError:
        sys.exit(f"MISSING: {path}")
    if hashlib.sha256(value).hexdigest() != sha256 or size not in {None, len(value)}:
        sys.exit(f"FORGED: {path} is not the file that was announced")
    return value


for member in (event["data"] for event in map(json.loads, sys.stdin) if event["type"] == "headrace.member.v1"):
    manifest = json.loads(fetch(f"{member['uri']}/manifest.json", member["manifest_sha256"]))
    for name, file in manifest["files"].items():
        fetch(f"{member['uri']}/{name}", file["sha256"], file["size"])
    print(f"{member['model']} version {member['version']}: manifest and {', '.join(manifest['files'])} are genuine")
