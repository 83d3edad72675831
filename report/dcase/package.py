"""The ZIP files that are submitted."""

import io
from collections.abc import Mapping
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from report.dcase.challenge import name_meta, name_technical_report

_READABLE_BY_ALL = 0o644 << 16


def pack_system(
    label: str, meta: bytes, outputs: Mapping[str, bytes], technical_report: bytes | None
) -> bytes:
    """Pack one system into a ZIP file; equal parts give equal bytes.

    Args:
        label: The label of the system.
        meta: Its description.
        outputs: Its predictions, by their paths in the package.
        technical_report: A PDF; None if it is submitted separately.
    """
    files = {**outputs, name_meta(label): meta}
    if technical_report is not None:
        files[name_technical_report(label)] = technical_report
    return pack_files(files)


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files by their paths into a ZIP file; equal files give equal bytes."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # ZipInfo has a fixed date; the archive itself would write the present one.
            info = ZipInfo(name)
            info.compress_type, info.external_attr = ZIP_DEFLATED, _READABLE_BY_ALL
            archive.writestr(info, content)
    return buffer.getvalue()
