"""Makes a signing certificate once, locked with the password that the CSI volume holds."""

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

password = Path(os.environ["PASSWORD_FILE"]).read_bytes()
target = Path(os.environ["CERTIFICATE_FILE"])
try:
    pkcs12.load_pkcs12(target.read_bytes(), password)
    print("issue-certificate: the certificate is there, and the password opens it")
except (FileNotFoundError, ValueError):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop signer")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    fresh = target.with_suffix(".new")
    fresh.write_bytes(
        pkcs12.serialize_key_and_certificates(b"shop", key, certificate, None, BestAvailableEncryption(password))
    )
    fresh.replace(target)
    print("issue-certificate: made a new certificate")
