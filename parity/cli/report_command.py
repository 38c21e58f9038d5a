"""`parity report`."""

import argparse

from parity.files import write_whole


def report_command(arguments: argparse.Namespace) -> int:
    """Write the page of the stored evidence."""
    from parity.page.evidence_page import evidence_page
    from parity.page.stored import read

    stored = read(arguments.results)
    page = evidence_page(stored)
    write_whole(arguments.out, page)
    names = ", ".join(f"{name}.json" for name in stored.results)
    print(f"Wrote {arguments.out} ({len(page.encode()) / 2**10:,.0f} KiB) from {names} in {stored.folder}.")
    return 0
