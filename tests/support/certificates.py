"""Certificates for TLS servers on this machine."""

import ssl
import subprocess
from pathlib import Path


def server_context(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context with a new self-signed certificate for 127.0.0.1, and that certificate."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -batch"
    command += f" -subj /CN={name} -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
