from __future__ import annotations

import pytest

from sbldlib import doctor


def findings():
    return {finding.part: finding for finding in doctor.examine()}


def test_says_what_is_here():
    found = findings()
    assert found["Python"].state == "ok"
    assert found["torch"].found.startswith("2.")
    assert {f.state for f in found.values()} <= {"ok", "limited", "missing"}
    assert all(f.mend for f in found.values() if f.state != "ok")


def test_refuses_the_kernel_whose_threads_die(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: "7.0.0")
    assert findings()["ipykernel"].state == "missing"


@pytest.mark.parametrize("name", ["jupyterlab", "transformers"])
def test_absent_package_says_how_to_get_it(monkeypatch, name):
    real = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda n: None if n == name else real(n))
    finding = findings()[name]
    assert finding.state == "limited" and finding.mend.startswith("pip install 'sbldlib[")


def test_no_browser_and_no_compiler_are_limits_not_failures(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = findings()
    assert found["C++ compiler"].state == "limited"
    assert "chromium" in found["browser tests"].found


def test_cuda_is_reported_with_its_memory(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda i: "Some GPU")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda i: (0, 80 * 2**30))
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    assert findings()["device"].found == "Some GPU, 80 GiB, bfloat16"
