"""How the gateway serves TLS: 1.2 or newer, and a certificate that can be changed while it runs."""

import ssl

from weir.settings.environment import SettingsError
from weir.settings.gateway import GatewaySettings


class Tls:
    """The gateway's certificate. `SettingsError` from the constructor if it is of no use."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.context = _context(settings)

    def reload(self) -> None:
        """Connections from now on see what the files hold; `SettingsError`: they see what they saw."""
        _context(self._settings)  # tried apart: a context that fails on the way is of neither
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
        # without a password a key that has one would have the terminal asked for it
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
