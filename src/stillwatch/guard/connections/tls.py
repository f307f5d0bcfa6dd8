"""TLS towards the model server: always verified, with an authority of one's own where wanted."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from stillwatch.errors import ConfigError, reject


@dataclass(frozen=True)
class TlsConfig:
    """Whom the gateway trusts when `upstream` is https, and as whom it presents itself.

    There is no switch that turns verification off: name the authority instead.

    Attributes:
        ca_file: PEM file of the authorities that alone are trusted; None trusts the system's.
        client_cert: PEM file of the gateway's own certificate, or None.
        client_key: PEM file of its key; None when `client_cert` holds it too.
    """

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    def __post_init__(self) -> None:
        if self.client_key is not None and self.client_cert is None:
            reject("guard.tls", "client_cert", "given with client_key", got="None")


def upstream_tls(config: TlsConfig) -> ssl.SSLContext:
    """Make the context that connections to the model server are opened with.

    Args:
        config: whom to trust.

    Returns:
        A context that verifies certificate and host name, TLS 1.2 or later.

    Raises:
        ConfigError: a file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as error:
        message = f"{config.ca_file}: no authority to trust: {error.strerror or error}"
        raise ConfigError(message, hint="a PEM file of CA certificates") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.client_cert is not None:
        try:
            context.load_cert_chain(config.client_cert, config.client_key)
        except OSError as error:
            message = f"{config.client_cert}: no usable certificate: {error.strerror or error}"
            raise ConfigError(message, hint="a PEM file, its key there or in client_key") from error
    return context
