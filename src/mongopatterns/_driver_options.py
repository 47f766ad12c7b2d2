"""Which options a client of the driver takes: the driver's own tables, read here and nowhere else."""

from __future__ import annotations

from pymongo.common import VALIDATORS
from pymongo.errors import PyMongoError
from pymongo.uri_parser import split_options

from mongopatterns.errors import UsageError
from mongopatterns.typing import Durability

__all__ = ["option_names", "takes", "w_of"]

# Parameters of a client's constructor that are not in the table: PyMongo's, and one of Motor's.
_PARAMETERS = ("connect", "document_class", "io_loop", "type_registry", "tz_aware")

# The driver knows options in lower case only, and nobody writes them like that.
_WRITTEN = (
    "appName",
    "authMechanism",
    "authMechanismProperties",
    "authSource",
    "connectTimeoutMS",
    "directConnection",
    "enableOverloadRetargeting",
    "heartbeatFrequencyMS",
    "loadBalanced",
    "localThresholdMS",
    "maxAdaptiveRetries",
    "maxConnecting",
    "maxIdleTimeMS",
    "maxPoolSize",
    "maxStalenessSeconds",
    "minPoolSize",
    "readConcernLevel",
    "readPreference",
    "readPreferenceTags",
    "replicaSet",
    "retryReads",
    "retryWrites",
    "serverMonitoringMode",
    "serverSelectionTimeoutMS",
    "socketTimeoutMS",
    "srvAllowedHostsSuffix",
    "srvMaxHosts",
    "srvServiceName",
    "timeoutMS",
    "tlsAllowInvalidCertificates",
    "tlsAllowInvalidHostnames",
    "tlsCAFile",
    "tlsCertificateKeyFile",
    "tlsCertificateKeyFilePassword",
    "tlsCRLFile",
    "tlsDisableOCSPEndpointCheck",
    "tlsInsecure",
    "uuidRepresentation",
    "waitQueueTimeoutMS",
    "wTimeoutMS",
    "zlibCompressionLevel",
)


def option_names() -> dict[str, str]:
    """Return the options that the driver knows: as they are written, by their names in lower case."""
    known = {name.lower(): name for name in (*VALIDATORS, *_PARAMETERS)}
    return known | {name.lower(): name for name in _WRITTEN if name.lower() in known}


def takes(option: str, text: str) -> bool:
    """Tell whether the driver takes this value in a URI. It would warn and leave it out if it does not."""
    try:
        split_options(f"{option}={text}", validate=True, warn=False)
    except (ValueError, TypeError, PyMongoError):
        return False
    return True


def w_of(durability: Durability | None) -> str | int | None:
    """Return the write concern that is meant; None where nothing was said.

    Raises:
        UsageError: If it is none.
    """
    if durability is not None and not isinstance(durability, Durability):
        raise UsageError(
            "durability", f"expected Durability.MAJORITY, Durability.FAST or None, got {durability!r:.100}"
        )
    return {Durability.MAJORITY: "majority", Durability.FAST: 1, None: None}[durability]
