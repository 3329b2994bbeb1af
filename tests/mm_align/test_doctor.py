"""The doctor: finds what is broken, says the cure, and its exit code tells scripts."""

import json
from importlib import metadata

import pytest

from mm_align.config import UserError
from mm_align.jobs import doctor


@pytest.fixture(scope="module")
def findings():
    return doctor.examine()


def test_this_environment_is_in_order(findings):
    """The four names, the bounds of pyproject.toml, the imports: all whole where the tests run."""
    assert not [finding for finding in findings if finding.status == "broken"]
    assert {finding.name for finding in findings if finding.topic == "package names"} == {"mm_align", "data_tools", "vision", "video"}
    assert {"torch", "transformers", "pydantic"} <= {finding.name for finding in findings if finding.topic == "versions"}
    assert any(finding.name == "default" for finding in findings)


def test_optional_parts_are_never_broken(findings):
    assert {finding.status for finding in findings if finding.topic == "optional parts"} <= {"ok", "note"}


def test_the_torchvision_trap_is_explained():
    cure = doctor.explain_import("transformers", "operator torchvision::nms does not exist")
    assert "CPU-only torch" in cure
    assert "--force-reinstall torch torchvision" in cure


def test_a_version_outside_the_bounds_is_broken_with_its_cure(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["transformers>=99", "nosuchthing>=1", "numpy>=1", "tomli; extra == 'x'"])
    found = {finding.name: finding for finding in doctor._versions()}
    assert found["transformers"].status == "broken"
    assert found["transformers"].cure == "pip install 'transformers>=99'"
    assert found["nosuchthing"].value == "not installed"
    assert found["numpy"].status == "ok"
    assert "tomli" not in found


def test_a_taken_name_is_broken(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert {finding.status for finding in doctor._names()} == {"broken"}


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("broken", 1)])
def test_exit_code_and_json(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("versions", "torch", "0.1", status, "upgrade")])
    assert doctor.run(doctor.DoctorConfig(json_output=True)) == code
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is (code == 0)
    assert report["findings"][0]["cure"] == "upgrade"
    assert doctor.run(doctor.DoctorConfig()) == code
    assert "-> upgrade" in capsys.readouterr().out


def test_a_failing_import_is_a_finding_not_a_crash(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist\nmore lines")

    monkeypatch.setattr(doctor, "import_module", broken)
    found = doctor._import("torchvision", "ops")
    assert (found.status, found.value) == ("broken", "operator torchvision::nms does not exist")
    assert "builds of different kinds" in found.cure


def test_a_model_is_inspected_by_name(monkeypatch, capsys):
    class Report:
        def to_lines(self):
            return ["791 keys"]

    class Module:
        inspect_model = staticmethod(lambda model: Report() if model == "HymanH/AITQE" else None)

    monkeypatch.setattr(doctor, "examine", list)
    monkeypatch.setattr(doctor, "import_module", lambda name: Module)
    assert doctor.run(doctor.DoctorConfig(model="HymanH/AITQE", json_output=True)) == 0
    assert json.loads(capsys.readouterr().out)["model"] == ["791 keys"]


def test_a_bundled_model_is_inspected_and_small_sizes_are_in_mib(tiny_model, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("mm_align.backends.load.ZOO", tmp_path)
    monkeypatch.setattr(doctor, "examine", list)
    tiny_model.save_pretrained(tmp_path / "tiny-thing")
    assert doctor.run(doctor.DoctorConfig(model="tiny-thing")) == 0
    told = capsys.readouterr().out
    assert "memory for the weights: " in told
    assert "MiB in bfloat16" in told
    assert "0.00 GiB" not in told
    with pytest.raises(UserError, match="did you mean 'tiny-thing'"):
        doctor.run(doctor.DoctorConfig(model="tiny-thingg"))
    with pytest.raises(UserError, match="has no weights to inspect"):
        doctor.run(doctor.DoctorConfig(model="null:"))


@pytest.mark.parametrize(("count", "said"), [(1 << 20, "1.0 MiB"), (100 << 20, "100.0 MiB"), (103 << 20, "0.10 GiB")])
def test_shown(count, said):
    """A tenth of a GiB is 102.4 MiB."""
    from mm_align.models.memory import shown

    assert shown(count) == said
