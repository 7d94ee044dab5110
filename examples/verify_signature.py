"""Checks signatures of models: python verify_signature.py STORE KEY.pem ... < updates (needs obstore, cryptography)."""

import base64
import json
import sys
from contextlib import suppress
from pathlib import Path

import obstore
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from obstore.store import from_url

store, trusted = from_url(sys.argv[1]), [load_pem_public_key(Path(name).read_bytes()) for name in sys.argv[2:]]
for member in (event["data"] for event in map(json.loads, sys.stdin) if event["type"] == "headrace.member.v1"):
    envelope = json.loads(bytes(obstore.get(store, f"{member['uri']}/model.sig").bytes()))["dsseEnvelope"]
    kind, payload, files = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"]), dict[str, str]()
    told = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    for key in (each for each in trusted if isinstance(each, ec.EllipticCurvePublicKey)):  # any of them may have signed
        with suppress(InvalidSignature):
            key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), told, ec.ECDSA(hashes.SHA256()))
            files = {each["name"]: each["digest"] for each in json.loads(payload)["predicate"]["resources"]}
    if files.get("manifest.json") != member["manifest_sha256"]:
        sys.exit(f"FORGED: no key that you trust signed {member['uri']}")
    print(f"{member['model']} version {member['version']}: {', '.join(files)} are signed")
