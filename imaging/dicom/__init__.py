"""READS DICOM. pydicom quotes the values it finds odd, names included, so a run silences it with `hush`."""

import logging
import warnings


def hush() -> None:
    """No log line and no warning of pydicom in this process: they quote header values, which can be identity.

    For processes that read exports, not for a library's import: it changes process-wide settings.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
