"""TLS for the gateway: version 1.2 or newer, with a certificate that can be replaced while it runs."""

import ssl

from weir.settings.environment import SettingsError
from weir.settings.gateway import GatewaySettings


class Tls:
    """The gateway's certificate. The constructor raises `SettingsError` if it cannot be used."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.context = _context(settings)

    def reload(self) -> None:
        """Serve the certificate in the files from now on; if `SettingsError`, new connections get the old one."""
        # try another context first: a load that fails half-way leaves a context with neither certificate
        _context(self._settings)
        self.context.load_cert_chain(*_files(self._settings))


def tls_of(settings: GatewaySettings) -> Tls | None:
    return Tls(settings) if settings.gateway_tls_cert else None


def _files(settings: GatewaySettings) -> tuple[str, str]:
    return str(settings.gateway_tls_cert), str(settings.gateway_tls_key)


def _context(settings: GatewaySettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    cert, key = _files(settings)
    try:
        # without a password here, OpenSSL would ask the terminal for that of an encrypted key
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as fault:
        if fault.reason == "KEY_VALUES_MISMATCH":
            why = f"WEIR_GATEWAY_TLS_KEY: {key} is not the key of the certificate {cert}"
        else:
            why = f"WEIR_GATEWAY_TLS_CERT, _KEY: {cert} and {key} must be PEM, the key without a password"
        raise SettingsError([why]) from None
    except OSError as fault:
        raise SettingsError(
            [f"WEIR_GATEWAY_TLS_CERT, _KEY: {cert} or {key} cannot be read: {fault.strerror}"]
        ) from None
    return context
