"""The OpenAPI 3.1 document of the gateway."""

from typing import Any

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Weir gateway", "version": "1"},
    "paths": {},
}
