"""A skipped browser test must not look like a passed one."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter) -> None:
    for report in terminalreporter.stats.get("skipped", ()):
        if "browser" in report.keywords:
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
            line = f"!! NOT TESTED in a browser: {report.nodeid} ({reason})"
            terminalreporter.write_line(line, yellow=True, bold=True)
