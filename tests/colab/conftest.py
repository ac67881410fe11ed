"""A kernel that was not there to be tested must not look like one that was."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter) -> None:
    for report in terminalreporter.stats.get("skipped", ()):
        if "colab" in report.nodeid:
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
            line = f"!! NOT TESTED on Colab's kernel: {report.nodeid} ({reason})"
            terminalreporter.write_line(line, yellow=True, bold=True)
