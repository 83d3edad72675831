"""The ZIP file that is submitted."""

import io
from collections.abc import Mapping
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from report.dcase.challenge import name_meta, name_output, name_technical_report

_READABLE_BY_ALL = 0o644 << 16


def pack_system(
    label: str, meta: bytes, outputs: Mapping[int, bytes], technical_report: bytes | None
) -> bytes:
    """Pack one system into a ZIP file; equal parts give equal bytes.

    Args:
        label: The label of the system.
        meta: Its description.
        outputs: Its predictions for each split.
        technical_report: A PDF; None if it is submitted separately.
    """
    files = {name_output(label, split): output for split, output in outputs.items()}
    files[name_meta(label)] = meta
    if technical_report is not None:
        files[name_technical_report(label)] = technical_report
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # ZipInfo has a fixed date; the archive itself would write the present one.
            info = ZipInfo(name)
            info.compress_type, info.external_attr = ZIP_DEFLATED, _READABLE_BY_ALL
            archive.writestr(info, content)
    return buffer.getvalue()
