"""Signs receipts with a certificate whose password the CSI volume holds."""

import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from web import serve

store = pkcs12.load_pkcs12(
    Path(os.environ["CERTIFICATE_FILE"]).read_bytes(), Path(os.environ["PASSWORD_FILE"]).read_bytes()
)
assert isinstance(store.key, ec.EllipticCurvePrivateKey)
key = store.key


def sign(_: BaseHTTPRequestHandler) -> Any:
    return {"receipt": "one kettle", "signature": key.sign(b"one kettle", ec.ECDSA(hashes.SHA256())).hex()}


print("signer: ready; the certificate opened with the password from the vault")
serve({"/sign": sign})
