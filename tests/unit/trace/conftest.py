"""A real time-stamp authority, made with openssl: a root, a signer, and answers to requests."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_SETTINGS = """
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,{purpose}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[authority]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
certs = {folder}/root.pem
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
other_policies = 1.3.6.1.4.1.99999.2
digests = sha256,sha512
accuracy = secs:1
tsa_name = {name}
ess_cert_id_alg = sha256
"""
_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


@dataclass(frozen=True)
class Authority:
    """A time-stamp authority.

    Attributes:
        folder: its keys and certificates.
    """

    folder: Path

    @property
    def root(self) -> Path:
        """The certificate that a reader may trust."""
        return self.folder / "root.pem"

    def answer(self, request: bytes) -> bytes:
        """Answer a request as it would by HTTP."""
        asked, told = self.folder / "request.tsq", self.folder / "answer.tsr"
        asked.write_bytes(request)
        line = ["ts", "-reply", "-config", str(self.folder / "openssl.cnf"), "-section"]
        _openssl([*line, "authority", "-queryfile", str(asked), "-out", str(told)])
        return told.read_bytes()

    def own_view(self, message: bytes, response: bytes) -> str:
        """Let openssl verify an answer, as anybody could."""
        (self.folder / "m").write_bytes(message)
        (self.folder / "r").write_bytes(response)
        line = ["ts", "-verify", "-data", str(self.folder / "m"), "-in", str(self.folder / "r")]
        return _openssl([*line, "-CAfile", str(self.root)])


def make_authority(
    folder: Path, *, name: str = "Test Time", purpose: str = "timeStamping", named: bool = True
) -> Authority:
    """Make an authority with keys of its own."""
    folder.mkdir()
    settings = folder / "openssl.cnf"
    told = {"folder": folder, "purpose": purpose, "name": "yes" if named else "no"}
    settings.write_text(_SETTINGS.format(**told))
    (folder / "serial").write_text("01\n")
    files = {kind: str(folder / kind) for kind in ("root.key", "root.pem", "signer.key")}
    request, signer = str(folder / "signer.csr"), str(folder / "signer.pem")
    config = ["-config", str(settings)]
    _openssl([
        "req", "-x509", *_NEW_KEY, "-keyout", files["root.key"], "-out", files["root.pem"],
        "-days", "3650", "-subj", f"/CN={name} Root", *config, "-extensions", "root",
    ])  # fmt: skip
    _openssl([
        "req", *_NEW_KEY, "-keyout", files["signer.key"], "-out", request,
        "-subj", f"/O={name}/CN={name} Signer", *config,
    ])  # fmt: skip
    _openssl([
        "x509", "-req", "-in", request, "-CA", files["root.pem"], "-CAkey", files["root.key"],
        "-CAcreateserial", "-days", "3650", "-out", signer, "-extfile", str(settings),
        "-extensions", "signer",
    ])  # fmt: skip
    return Authority(folder)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A real authority; the tests that need one are skipped where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    pytest.importorskip("rfc3161_client", reason="the extra 'stamp' is not installed")
    return make_authority(tmp_path_factory.mktemp("tsa") / "a")


@pytest.fixture
def other_authority(tmp_path: Path, authority: Authority):
    """Make further authorities with settings of their own."""

    def make(folder: str = "other", **settings) -> Authority:
        return make_authority(tmp_path / folder, **settings)

    return make


def _openssl(arguments: list[str]) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout + done.stderr
