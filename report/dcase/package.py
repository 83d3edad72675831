"""The ZIP that is handed in."""

import io
from collections.abc import Mapping
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from report.dcase.challenge import meta_name, output_name, technical_report_name

_FILES_OF_ALL = 0o644 << 16


def packed(
    label: str, meta: bytes, outputs: Mapping[int, bytes], technical_report: bytes | None
) -> bytes:
    """The package of one system: the same parts make the same bytes.

    Args:
        label: Of the system.
        meta: Its description.
        outputs: Its predictions for each split.
        technical_report: A PDF; None if it is handed in otherwise.
    """
    files = {output_name(label, split): output for split, output in outputs.items()}
    files[meta_name(label)] = meta
    if technical_report is not None:
        files[technical_report_name(label)] = technical_report
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # ZipInfo has a fixed date where the archive would write the present one.
            info = ZipInfo(name)
            info.compress_type, info.external_attr = ZIP_DEFLATED, _FILES_OF_ALL
            archive.writestr(info, content)
    return buffer.getvalue()
